import asyncio
import json
import os
import random
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.processes import is_alive

from apflow.core.settings import reset_settings
from apflow.executor.command import (
    CommandExecutor,
    CommandFailedError,
    CommandRefusedError,
    CommandStartError,
    CommandTimeoutError,
)
from apflow.executor.command.policy import Policy, plan_launch
from apflow.executor.command.process import Process, run_process

REAL_ECHO, REAL_PYTHON = os.path.realpath("/bin/echo"), os.path.realpath(sys.executable)
PRINT_ARGUMENTS = "import json, os, sys; print(json.dumps([os.fsencode(a).hex() for a in sys.argv[1:]]))"


@pytest.fixture(autouse=True)
def any_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    monkeypatch.delenv("APFLOW_COMMAND_SHELL", raising=False)
    reset_settings()
    yield
    reset_settings()


async def run(command: str | list[str], **inputs: Any) -> dict[str, Any]:
    return await CommandExecutor().execute({"command": command, **inputs})


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what another process does: the last steps of dying are its own."""
    async with asyncio.timeout(30):
        while not claim():
            await asyncio.sleep(0.01)


async def test_a_command_returns_its_output_and_exit_code():
    result = await run(["echo", "hello"])
    assert result.pop("duration") >= 0
    assert result == {
        "command": ["echo", "hello"],
        "return_code": 0,
        "stdout": "hello\n",
        "stderr": "",
        "success": True,
    }


async def test_a_text_is_split_as_a_shell_would_and_not_given_to_one():
    result = await run("echo 'a  b' $HOME ; rm -rf * | cat")
    assert result["stdout"] == "a  b $HOME ; rm -rf * | cat\n"


async def test_commands_are_off_until_programs_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("APFLOW_COMMAND_ALLOW")
    with pytest.raises(CommandRefusedError, match="APFLOW_COMMAND_ALLOW"):
        await run(["echo"])


async def test_only_named_programs_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "echo, true")
    assert (await run(["echo", "x"]))["success"]
    assert (await run([REAL_ECHO, "x"]))["success"]
    with pytest.raises(CommandRefusedError, match="cat"):
        await run(["cat", "/etc/passwd"])


async def test_a_link_with_an_allowed_name_does_not_make_its_target_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "echo")
    (tmp_path / "echo").symlink_to("/bin/cat")
    for command in (str(tmp_path / "echo"), "./echo"):
        with pytest.raises(CommandRefusedError, match="not among the programs"):
            await run([command, "/etc/passwd"], cwd=str(tmp_path))


async def test_a_link_to_an_allowed_program_is_that_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", REAL_PYTHON)
    (tmp_path / "mine").symlink_to(sys.executable)
    assert (await run([str(tmp_path / "mine"), "-c", "print(1)"]))["stdout"] == "1\n"


async def test_a_program_of_many_names_is_allowed_only_under_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    box = tmp_path / "busybox"
    box.write_text("#!/bin/sh\necho $0\n")
    box.chmod(0o755)
    for name in ("list", "sh"):
        (tmp_path / name).symlink_to(box)
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", str(tmp_path / "list"))
    assert (await run([str(tmp_path / "list")]))["success"]
    with pytest.raises(CommandRefusedError):
        await run([str(tmp_path / "sh"), "-c", "id"])


async def test_the_path_of_the_task_does_not_decide_what_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fake = tmp_path / "echo"
    fake.write_text("#!/bin/sh\ntouch owned\n")
    fake.chmod(0o755)
    assert (await run(["echo", "real"], env={"PATH": str(tmp_path)}))["stdout"] == "real\n"
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "echo")
    with pytest.raises(CommandRefusedError, match=r"env\.PATH"):
        await run(["echo"], env={"PATH": str(tmp_path)})


async def test_a_shell_needs_the_policys_permission(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(CommandRefusedError, match="APFLOW_COMMAND_SHELL"):
        await run("echo a | tr a b", shell=True)
    monkeypatch.setenv("APFLOW_COMMAND_SHELL", "true")
    assert (await run("echo a | tr a b", shell=True))["stdout"] == "b\n"
    with pytest.raises(CommandStartError, match="must be a string, not a list"):
        await run(["echo"], shell=True)
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "echo")
    with pytest.raises(CommandRefusedError, match="/bin/sh"):
        await run("echo a", shell=True)


def injections() -> list[str]:
    """200 strings that a shell, a splitter or an encoder could handle incorrectly."""
    classics = [
        "; rm -rf /", "$(id)", "`id`", "| cat", "&& id", "|| id", "> out", "< in", "2>&1", "\n id",
        "\r", "\t", "*", "?", "[a-z]", "{a,b}", "~", "~root", "$HOME", "${IFS}", "$'\\x41'", "'",
        '"', "\\", "\\\\", "#x", "!x", "%s%n", "--", "-rf", "--help", "=x", "a=b", " ", "", "  x  ",
        "é", "漢字", "🦆", "\u202e", "\ufeff", "\x01", "\x1b[31m", "\x7f", "'; id; '", '"; id; "',
        "\\'; id", "&", "()", "$((1+1))", "<(id)", "\udc80\udcff",
    ]  # fmt: skip
    chance = random.Random(7)
    alphabet = "ab ;|&$`'\"\\(){}[]<>*?~!#%=-\n\t\r/.é漢\x01"
    made = ["".join(chance.choices(alphabet, k=chance.randint(1, 40))) for _ in range(200 - len(classics))]
    return classics + made


async def test_200_injections_reach_the_program_byte_for_byte():
    texts = injections()
    assert len(texts) == 200
    expected = [os.fsencode(text).hex() for text in texts]
    given = await run(python(PRINT_ARGUMENTS, *texts))
    assert json.loads(given["stdout"]) == expected
    split = await run(shlex.join(python(PRINT_ARGUMENTS, *texts)))
    assert json.loads(split["stdout"]) == expected


@pytest.mark.parametrize(
    "inputs",
    [
        {"command": ["echo", "a\0b"]},
        {"command": "echo a\0b"},
        {"command": ["echo"], "cwd": "/tmp\0"},
        {"command": ["echo"], "env": {"A": "b\0"}},
        {"command": ["echo"], "env": {"A\0": "b"}},
    ],
)
async def test_null_bytes_are_refused_clearly(inputs: dict[str, Any]):
    with pytest.raises(CommandRefusedError, match="null byte"):
        await CommandExecutor().execute(inputs)


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "GCONV_PATH", "A=B", ""]
)
async def test_variables_that_load_other_code_are_refused(name: str):
    with pytest.raises(CommandRefusedError):
        await run(["echo"], env={name: "x"})


async def test_the_environment_is_minimal_plus_what_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_SECRET_TOKEN", "hidden")
    names = (await run(["env"], env={"MINE": "1"}))["stdout"]
    assert "MINE=1" in names
    assert "PATH=" in names
    assert "MY_SECRET_TOKEN" not in names
    assert "APFLOW" not in names


async def test_it_runs_in_the_folder_that_is_named_and_reads_its_input(tmp_path: Path):
    assert (await run(["pwd"], cwd=str(tmp_path)))["stdout"] == f"{tmp_path}\n"
    assert (await run(["cat"], stdin="é\n" * 100_000))["stdout"] == "é\n" * 100_000
    assert (await run(["cat"]))["stdout"] == ""


async def test_input_that_the_program_does_not_want_is_no_failure():
    assert (await run(["true"], stdin="x" * 900_000))["success"]


async def test_another_exit_code_than_0_fails_with_the_ends_of_the_output():
    code = "import sys; print('said'); print('x' * 9000 + 'reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandFailedError, match="exit code 3") as caught:
        await run(python(code))
    assert caught.value.return_code == 3
    assert caught.value.stdout == "said\n"
    assert caught.value.stderr.endswith("reason\n")
    assert len(caught.value.stderr) < 5000
    assert "reason" in str(caught.value)


async def test_without_check_the_exit_code_is_a_result():
    result = await run(python("raise SystemExit(3)"), check=False)
    assert (result["return_code"], result["success"]) == (3, False)


async def test_death_by_signal_is_told():
    with pytest.raises(CommandFailedError, match="signal 9"):
        await run(python("import os; os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"command": ["no-such-program-here"]}, "no-such-program-here"),
        ({"command": ["/etc/passwd"]}, "/etc/passwd"),
        ({"command": ["echo"], "cwd": "/no/such/folder"}, "/no/such/folder"),
        ({"command": "echo 'open"}, "cannot be split"),
        ({"command": "  "}, "names no program"),
        ({"command": ["echo", "\ud800"]}, "cannot be started"),
        ({"command": ["echo", "x" * 3_000_000]}, "cannot be started"),
    ],
)
async def test_what_cannot_be_started_says_why(inputs: dict[str, Any], fault: str):
    with pytest.raises(CommandStartError, match=fault):
        await CommandExecutor().execute(inputs)


async def test_output_is_cut_and_marked_while_the_program_goes_on():
    code = "import sys; sys.stdout.write('x' * 30_000_000); sys.stderr.write('done')"
    result = await run(python(code), max_output_bytes=1000)
    assert result["stdout"] == "x" * 1000 + "\n[cut here: 29999000 more bytes]"
    assert result["stderr"] == "done"


async def test_a_character_at_the_cut_is_not_broken():
    result = await run(["printf", "aé"], max_output_bytes=2)
    assert result["stdout"] == "a\n[cut here: 1 more bytes]"


async def test_what_is_no_text_becomes_text():
    assert (await run(["printf", "\\377a"]))["stdout"] == "\ufffda"


PARENT = """
import signal, subprocess, sys
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
open(sys.argv[1] + ".new", "w").write(str(child.pid))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
print("started", flush=True)
child.wait()
"""


async def test_too_much_time_kills_the_whole_group(tmp_path: Path):
    with pytest.raises(CommandTimeoutError, match=r"over 3 s") as caught:
        await run(python(PARENT, str(tmp_path / "pid"), "meek"), timeout=3)
    assert caught.value.stdout == "started\n"
    await until(lambda: not is_alive(int((tmp_path / "pid").read_text())))


@pytest.mark.parametrize("manner", ["meek", "stubborn"])
async def test_cancelling_kills_the_whole_group(tmp_path: Path, manner: str):
    running = asyncio.ensure_future(run(python(PARENT, str(tmp_path / "pid"), manner)))
    await until((tmp_path / "pid").exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not is_alive(int((tmp_path / "pid").read_text())))


async def test_cancelling_keeps_what_was_said_until_then():
    executor = CommandExecutor()
    command = python("import time; print('so far', flush=True); time.sleep(60)")
    running = asyncio.ensure_future(executor.execute({"command": command}))
    await until(lambda: executor._process is not None and executor._process.stdout.total > 0)
    assert (await executor.cancel())["partial_result"] == {"stdout": "so far\n", "stderr": ""}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await CommandExecutor().cancel() == {"status": "cancelled"}


@pytest.fixture
def in_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APFLOW_COMMAND_SHELL", "1")


LEFT_RUNNING = {
    "holding the output": ("sleep 60 & echo $!", "Ended 1 process "),
    "holding one output": ("sleep 60 >/dev/null & echo $!", "Ended 1 process "),
    "holding nothing": ("sleep 60 >/dev/null 2>&1 & echo $!", "Ended 1 process "),
    "below another": ("(sleep 60 & echo $!; exec sleep 60) & sleep 0.2", "Ended 2 processes "),
    "stubborn": ("(trap '' TERM; sh -c 'echo $$; exec sleep 60') & sleep 0.2", "Ended "),
    "talking": ("sh -c 'echo $$; exec yes' & sleep 0.2", "Ended 1 process "),
    "outside the group": ("setsid sh -c 'echo $$; exec sleep 60' & sleep 0.5", "outside the program's group"),
}


@pytest.mark.parametrize(
    ("manner", "code"), [*((each, 0) for each in LEFT_RUNNING), ("holding the output", 3)]
)
async def test_what_a_program_leaves_running_does_not_hold_up_its_end(manner: str, code: int, in_shell: None):
    script, told = LEFT_RUNNING[manner]
    result = await run(f"{script}; exit {code}", shell=True, check=False, timeout=30)
    pid = int(result["stdout"].split()[0])
    try:
        assert result["return_code"] == code
        assert told in result["note"]
        if manner != "outside the group":
            await until(lambda: not is_alive(pid))
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


async def test_a_failure_tells_what_was_left_running(in_shell: None):
    with pytest.raises(CommandFailedError, match=r"exit code 3\. Ended 1 process that"):
        await run("sleep 60 & exit 3", shell=True)


async def test_what_ends_soon_after_its_program_is_waited_for(in_shell: None):
    result = await run("(sleep 0.1; echo late) & echo now", shell=True)
    assert (result["stdout"], "note" in result) == ("now\nlate\n", False)


async def test_all_that_was_said_before_the_end_is_read(in_shell: None):
    result = await run("sleep 60 & head -c 900000 /dev/zero | tr '\\0' x; exit", shell=True)
    assert result["stdout"] == "x" * 900_000


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_cancellation_at_any_moment_leaves_nothing(in_shell: None, tmp_path: Path):
    before = descriptors()
    for number in range(12):
        file = tmp_path / str(number)
        running = asyncio.ensure_future(run(f"sleep 60 & echo $! $$ > {file}; sleep 60", shell=True))
        await asyncio.sleep(number * 0.002)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        pids = [int(word) for word in file.read_text().split()] if file.exists() else []
        await until(lambda pids=pids: not any(is_alive(each) for each in pids))
    # The helper's pipe stays open.
    await until(lambda: descriptors() <= before + 1)


RUN_FOREVER = """
import asyncio, sys
from apflow.executor.command import CommandExecutor
asyncio.run(CommandExecutor().execute({"command": sys.argv[1], "shell": True, "timeout": 60}))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_no_program_outlives_the_process_that_runs_it(number: int, in_shell: None, tmp_path: Path):
    script = f"trap '' HUP; sleep 60 & echo $! $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN_FOREVER, script, stderr=asyncio.subprocess.DEVNULL
    )
    await until((tmp_path / "pids").exists)
    process.send_signal(number)
    await process.wait()
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    await until(lambda: not any(is_alive(each) for each in pids))


def a_script(folder: Path) -> Path:
    """A program that acts by the name that it is called by."""
    script = folder / "real-tool"
    script.write_text('#!/bin/sh\necho "${0##*/}"\n')
    script.chmod(0o755)
    (folder / "alias").symlink_to(script)
    return script


@pytest.mark.parametrize("allowed", ["*", "{}/alias", "{}/real-tool", "{0}/alias,{0}/real-tool"])
async def test_a_program_is_called_by_the_name_that_was_given(
    allowed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = a_script(tmp_path)
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", allowed.format(tmp_path))
    for program, cwd in ((str(tmp_path / "alias"), None), ("./alias", str(tmp_path))):
        result = await CommandExecutor().execute({"command": [program], **({"cwd": cwd} if cwd else {})})
        assert result["stdout"] == "alias\n"
    assert (await run([str(script)]))["stdout"] == "real-tool\n"


async def test_a_name_on_the_path_stays_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a_script(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "alias")
    assert (await run(["alias"]))["stdout"] == "alias\n"


async def test_a_link_that_changes_after_the_check_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "echo")
    link = tmp_path / "mine"
    link.symlink_to("/bin/echo")
    launch = plan_launch([str(link), "x"], Policy(("echo",)))
    link.unlink()
    link.symlink_to("/bin/cat")
    process = Process(1000)
    assert (await run_process(launch, process, b"", 10)).return_code == 0
    assert process.stdout.text == "x\n"


async def test_many_commands_at_once_do_not_mix():
    results = await asyncio.gather(*(run(["echo", str(number)]) for number in range(30)))
    assert [each["stdout"] for each in results] == [f"{number}\n" for number in range(30)]
