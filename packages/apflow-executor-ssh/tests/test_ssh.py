"""What a command is given, and what comes back."""

import asyncio
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers.sshd import Sshd, a_system_user, an_sshd

from apflow.core.errors import AddressRefusedError, HostNotFoundError, HostUnreachableError
from apflow.executor.ssh import SshCommandFailedError, SshExecutor, SshInputError, SshShellError
from apflow.executor.ssh.script import MAX_COMMAND_BYTES, command_script

PRINT_ARGUMENTS = "import json, os, sys; print(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))"


async def run(server: Sshd, command: str | list[str], **inputs: Any) -> dict[str, Any]:
    return await SshExecutor().execute({**server.inputs, "command": command, **inputs})


async def test_a_command_returns_its_output_and_exit_code(server: Sshd):
    assert await run(server, "echo hello; echo alas >&2") == {
        "command": "echo hello; echo alas >&2",
        "stdout": "hello\n",
        "stderr": "alas\n",
        "return_code": 0,
        "success": True,
        "host": server.host,
        "username": server.username,
    }


async def test_a_text_is_read_by_the_users_shell_and_a_list_by_none(own_server: Sshd):
    assert (await run(own_server, "echo $((1 + 1)) | tr 2 3"))["stdout"] == "3\n"
    assert (await run(own_server, ["echo", "$((1 + 1))", "|", "tr"]))["stdout"] == "$((1 + 1)) | tr\n"
    assert (await run(own_server, 'echo "$0"'))["stdout"] in ("bash\n", "/bin/bash\n", "sh\n", "/bin/sh\n")


async def test_another_exit_code_than_zero_fails_unless_unchecked(server: Sshd):
    with pytest.raises(SshCommandFailedError, match=r"exit code 3\.\nstderr: the reason") as failed:
        await run(server, "echo the reason >&2; exit 3")
    assert failed.value.return_code == 3
    result = await run(server, "exit 3", check=False)
    assert (result["return_code"], result["success"]) == (3, False)


@pytest.mark.parametrize("signal", [9, 15])
async def test_the_end_by_a_signal_is_a_negative_code(server: Sshd, signal: int):
    assert (await run(server, f"kill -{signal} $$", check=False))["return_code"] == -signal
    with pytest.raises(SshCommandFailedError, match=f"killed by signal {signal}"):
        await run(server, f"kill -{signal} $$")
    assert (await run(server, f"exit {128 + signal}", check=False))["return_code"] == 128 + signal


async def test_a_program_that_is_not_there_ends_with_127(server: Sshd):
    with pytest.raises(SshCommandFailedError, match="exit code 127"):
        await run(server, ["no-such-program"])


async def test_a_long_command_arrives(server: Sshd):
    words = ["x" * 10_000] * 12
    assert (await run(server, ["echo", *words]))["stdout"] == " ".join(words) + "\n"
    assert (await run(server, f"echo {' '.join(words)} | wc -c"))["stdout"].strip() == str(12 * 10_001)


@pytest.mark.parametrize("login", ["server", "own_server"])
async def test_variables_arrive_whatever_the_server_accepts(login: str, request: pytest.FixtureRequest):
    server: Sshd = request.getfixturevalue(login)
    env = {"A": "it's $HOME `id` \"\\", "B": "two\nlines\n", "_C1": "", "LANG": "C"}
    code = "import json, os; print(json.dumps({k: os.environ.get(k) for k in ['A', 'B', '_C1', 'LANG']}))"
    assert json.loads((await run(server, ["/usr/bin/env", "python3", "-c", code], env=env))["stdout"]) == env
    assert (await run(server, 'printf %s "$A"', env=env))["stdout"] == env["A"]


async def test_no_value_of_a_variable_stands_in_a_list_of_processes(server: Sshd):
    secret = f"s3cret{random.getrandbits(64):x}"
    listing = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    said = await run(server, listing, env={"TOKEN": secret}, stdin=f"{secret}\n")
    assert "tr" in said["stdout"]
    assert secret not in said["stdout"]


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"env": {"A=B": "x"}}, "not a valid name of an environment variable"),
        ({"env": {"A": "x\0"}}, "null byte"),
        ({"command": "a\0b"}, "null byte"),
        ({"command": ["a", "\ud800"]}, "not Unicode"),
        ({"command": ["-x"]}, "names no program"),
        ({"command": [""]}, "names no program"),
        ({"command": "x" * MAX_COMMAND_BYTES}, "as stdin"),
    ],
)
async def test_what_no_program_can_be_given_is_refused_before_anything_is_done(
    inputs: dict[str, Any], reason: str
):
    given = {"host": "192.0.2.1", "username": "u", "password": "p", "command": "true"}
    with pytest.raises(SshInputError, match=reason):
        await SshExecutor().execute({**given, **inputs})


def injections() -> list[str]:
    """200 strings that a shell, a splitter or an encoder could handle incorrectly."""
    classics = [
        "; rm -rf /", "$(id)", "`id`", "| cat", "&& id", "|| id", "> out", "< in", "2>&1", "\n id", "}",
        "\r", "\t", "*", "?", "[a-z]", "{a,b}", "~", "~root", "$HOME", "${IFS}", "$'\\x41'", "'", "\n}\n",
        '"', "\\", "\\\\", "#x", "!x", "!!", "%s%n", "--", "-rf", "--help", "=x", "a=b", " ", "", "  x  ",
        "é", "漢字", "🦆", "\u202e", "\ufeff", "\x01", "\x1b[31m", "\x7f", "'; id; '", '"; id; "',
        "\\'; id", "&", "()", "$((1+1))", "<(id)", "\udc80\udcff", "\n", "x\n\n", "'\n'", "\\\n", "{ :",
    ]  # fmt: skip
    chance = random.Random(4)
    letters = "ab '\"\\$`|&;<>(){}[]*?!#~=%\n\t\r-é\x01\udcfe"
    return classics + [
        "".join(chance.choices(letters, k=chance.randint(1, 30))) for _ in range(200 - len(classics))
    ]


@pytest.mark.parametrize("login", ["server", "own_server"])
async def test_200_injections_reach_the_arguments_byte_for_byte(login: str, request: pytest.FixtureRequest):
    server: Sshd = request.getfixturevalue(login)
    texts = injections()
    assert len(texts) == 200
    result = await run(server, ["/usr/bin/env", "python3", "-c", PRINT_ARGUMENTS, *texts])
    said = [bytes.fromhex(each) for each in json.loads(result["stdout"])]
    assert said == [each.encode("utf-8", "surrogateescape") for each in texts]


async def test_stdin_arrives_whole_and_ends(server: Sshd):
    assert (await run(server, ["cat"]))["stdout"] == ""
    text = "".join(random.Random(1).choices("abc\né\x00\x04", k=50_000))
    assert (await run(server, ["cat"], stdin=text))["stdout"] == text


async def test_much_stdin_and_much_output_on_both_streams_do_not_wait_for_each_other(server: Sshd):
    stdin = "0123456789abcde\n" * (1 << 19)  # 8 MiB: several windows
    result = await run(server, "tee /dev/stderr", stdin=stdin, max_output_bytes=1000)
    for stream in ("stdout", "stderr"):
        assert result[stream] == f"{stdin[:1000]}\n[cut here: {len(stdin) - 1000} more bytes]"


async def test_a_command_may_leave_its_input_unread(server: Sshd):
    stdin = "x" * (8 << 20)
    assert (await run(server, ["true"], stdin=stdin))["success"]
    assert (await run(server, "exec <&-; sleep 0.3; echo done", stdin=stdin))["stdout"] == "done\n"


async def test_what_a_command_leaves_in_the_background_goes_on(server: Sshd):
    async with asyncio.timeout(30):
        await run(server, "sleep 61.25 >/dev/null 2>&1 &")
    [pid] = server.commands("sleep 61.25")
    await run(server, f"kill {pid}")


@contextmanager
def a_shell(greeting: str) -> Iterator[str]:
    """A login shell that says something before it does anything."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "shell")
        path.write_text(f'#!/bin/sh\n{greeting}\nexec /bin/sh "$@"\n')
        path.chmod(0o755)
        yield str(path)


async def test_what_startup_files_say_is_no_output_of_the_command():
    with (
        a_shell('echo "hello, $LOGNAME"') as shell,
        a_system_user(shell) as (name, _),
        an_sshd(username=name) as server,
    ):
        assert (await run(server, ["echo", "42"]))["stdout"] == "42\n"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [("ForceCommand echo no shell for you", "has no POSIX shell"), ("MaxSessions 1", "MaxSessions")],
)
async def test_a_host_without_a_shell_is_told_as_that(setting: str, reason: str):
    with an_sshd(setting) as server, pytest.raises(SshShellError, match=reason):
        await run(server, "echo x")


@pytest.mark.parametrize("shell", ["sh", "bash", "busybox sh"])
def test_a_script_that_arrives_in_part_is_not_run(shell: str, tmp_path: Path):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    whole = command_script(["touch", str(tmp_path / "done"), "x"], {"A": "it's"})
    arguments = [whole[:end] for end in range(len(whole))]
    for_each = 'for each; do (eval "$each") 2>/dev/null; done; true'
    subprocess.run([*shell.split(), "-c", for_each, "sh", *arguments], check=True, timeout=20)
    assert not (tmp_path / "done").exists()
    subprocess.run([*shell.split(), "-c", for_each, "sh", whole], cwd=tmp_path, check=True, timeout=20)
    assert (tmp_path / "done").exists()


async def test_the_policy_decides_where_to_connect(server: Sshd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    for host in ("127.0.0.1", "localhost", "::1", "0x7f.1", "2130706433"):
        with pytest.raises(AddressRefusedError, match="APFLOW_NET_ALLOW"):
            await run(server, "true", host=host)
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
    assert (await run(server, "true"))["success"]
    monkeypatch.setenv("APFLOW_NET_POLICY", "open")
    with pytest.raises(AddressRefusedError, match="metadata"):
        await run(server, "true", host="169.254.169.254")


async def test_an_absent_peer_is_named(server: Sshd, unused_tcp_port: int):
    with pytest.raises(HostUnreachableError, match=f"port {unused_tcp_port}"):
        await run(server, "true", port=unused_tcp_port)
    with pytest.raises(HostNotFoundError, match=r"nowhere\.invalid"):
        await run(server, "true", host="nowhere.invalid")
