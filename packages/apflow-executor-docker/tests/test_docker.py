import asyncio
import json
import random
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from peers.engine import IMAGE, Engine
from peers.limits import exceeding

from apflow.executor.docker import (
    ContainerFailedError,
    ContainerStartError,
    ContainerTimeoutError,
    DockerError,
    DockerExecutor,
    DockerRefusedError,
    EngineRefusedError,
    OutOfMemoryError,
)

GONE_SECONDS = 30.0


async def run(command: str | list[str], **inputs: Any) -> dict[str, Any]:
    return await DockerExecutor().execute({"image": IMAGE, "command": command, "pull": "never", **inputs})


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


async def until_it_says(executor: DockerExecutor, text: str) -> None:
    async with asyncio.timeout(30):
        while executor._container is None or text not in executor._container.stdout.text:
            await asyncio.sleep(0.01)


async def test_a_command_returns_its_output_and_exit_code(engine: Engine):
    result = await run(["echo", "hello"])
    assert len(result.pop("container_id")) == 64
    assert result.pop("duration") > 0
    assert result == {
        "logs": "hello\n",
        "stdout": "hello\n",
        "stderr": "",
        "exit_code": 0,
        "success": True,
        "image": IMAGE,
        "command": ["echo", "hello"],
    }


async def test_what_a_program_leaves_running_ends_with_the_container(engine: Engine):
    result = await run(sh("sleep 300 & (sleep 300 &); echo hi; exit 0"), timeout=200)
    assert (result["stdout"], result["exit_code"]) == ("hi\n", 0)


async def test_the_two_streams_are_kept_apart_and_together(engine: Engine):
    result = await run(sh("echo out; sleep 0.2; echo err >&2; sleep 0.2; echo more"))
    assert (result["stdout"], result["stderr"]) == ("out\nmore\n", "err\n")
    assert result["logs"] == "out\nerr\nmore\n"


async def test_a_text_is_split_as_a_shell_would_and_not_given_to_one(engine: Engine):
    assert (await run("echo 'a  b' $HOME ; id | cat"))["stdout"] == "a  b $HOME ; id | cat\n"


def injections() -> list[str]:
    """200 strings that a shell, a splitter or an encoder could handle incorrectly."""
    classics = [
        "; rm -rf /", "$(id)", "`id`", "| cat", "&& id", "|| id", "> out", "< in", "2>&1", "\n id",
        "\r", "\t", "*", "?", "[a-z]", "{a,b}", "~", "~root", "$HOME", "${IFS}", "$'\\x41'", "'",
        '"', "\\", "\\\\", "#x", "!x", "%s%n", "--", "-rf", "--help", "=x", "a=b", " ", "", "  x  ",
        "é", "漢字", "🦆", "\u202e", "\ufeff", "\x01", "\x1b[31m", "\x7f", "'; id; '", '"; id; "',
        "\\'; id", "&", "()", "$((1+1))", "<(id)", "\u2028", "\ufffd", "</script>", '{"a":1}',
    ]  # fmt: skip
    chance = random.Random(7)
    alphabet = "ab ;|&$`'\"\\(){}[]<>*?~!#%=-\n\t\r/.é漢\x01"
    made = ["".join(chance.choices(alphabet, k=chance.randint(1, 40))) for _ in range(200 - len(classics))]
    return classics + made


async def test_200_injections_reach_the_program_byte_for_byte(engine: Engine):
    texts = injections()
    assert len(texts) == 200
    script = "od -An -v -tx1 /proc/$$/cmdline; true"  # the shell stays
    result = await run(["sh", "-c", script, "sh", *texts])
    given = bytes.fromhex(result["stdout"]).split(b"\0")
    assert given[3:-1] == [b"sh", *(text.encode() for text in texts)]


async def test_the_environment_folder_user_and_entry_point_are_the_tasks(engine: Engine):
    executor = DockerExecutor()
    executor.task_id, executor.idempotency_key = "the task", "the key"
    shown = await executor.execute(
        {
            "image": IMAGE,
            "command": ["env; pwd; id -u; id -g"],
            "entrypoint": "sh -c",
            "env": {"MINE": "a b", "EMPTY": ""},
            "working_dir": "/tmp",
            "user": "1234:56",
            "pull": "never",
        }
    )
    lines = shown["stdout"].splitlines()
    assert lines[-3:] == ["/tmp", "1234", "56"]
    for each in ("MINE=a b", "EMPTY=", "APFLOW_TASK_ID=the task", "APFLOW_IDEMPOTENCY_KEY=the key"):
        assert each in lines
    own = await run(["env"], env={"APFLOW_TASK_ID": "mine"})
    assert "APFLOW_TASK_ID=mine" in own["stdout"]
    assert "APFLOW_IDEMPOTENCY_KEY" not in own["stdout"]


async def test_standard_input_is_given_and_ended(engine: Engine):
    text = "é\n" * 100_000
    assert (await run(["cat"], stdin=text))["stdout"] == text
    assert (await run(["cat"]))["stdout"] == ""


async def test_input_that_the_program_does_not_want_is_no_failure(engine: Engine):
    assert (await run(["true"], stdin="x" * 900_000))["success"]


async def test_another_exit_code_than_0_fails_with_the_ends_of_the_output(engine: Engine):
    script = "echo said; head -c 9000 /dev/zero | tr '\\0' x >&2; echo reason >&2; exit 3"
    with pytest.raises(ContainerFailedError, match="exit code 3") as caught:
        await run(sh(script))
    assert (caught.value.exit_code, caught.value.stdout) == (3, "said\n")
    assert caught.value.stderr.endswith("reason\n")
    assert len(caught.value.stderr) < 5000


async def test_without_check_the_exit_code_is_a_result(engine: Engine):
    result = await run(sh("exit 3"), check=False)
    assert (result["exit_code"], result["success"]) == (3, False)


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"command": ["no-such-program"]}, "executable file not found"),
        ({"command": ["/etc"]}, "permission denied"),
        ({"command": ["true"], "user": "nobody-here"}, "unable to find user"),
    ],
)
async def test_what_cannot_be_started_says_why(engine: Engine, inputs: dict[str, Any], fault: str):
    with pytest.raises(ContainerStartError, match=fault):
        await run(**inputs)


async def test_as_much_as_linux_takes_can_be_given(engine: Engine):
    longest = "x" * (128 * 1024 - 1)
    result = await run(
        ["sh", "-c", "echo $(( ${#1} + ${#2} ))", "sh", longest, longest], env={"A": "y" * 100_000}
    )
    assert result["stdout"] == f"{2 * len(longest)}\n"
    many = [f"{number:01000}" for number in range(1800)]
    assert (await run(["sh", "-c", "echo $#", "sh", *many]))["stdout"] == "1800\n"


async def test_a_file_that_is_no_program_cannot_be_run(engine: Engine):
    with pytest.raises((ContainerStartError, ContainerFailedError), match="exec format error"):
        await run(["/bin/not-a-program"])


async def test_what_the_engine_refuses_is_told(engine: Engine):
    with pytest.raises(EngineRefusedError, match="Range of CPUs"):
        await run(["true"], resources={"cpu": 100_000})
    with pytest.raises(EngineRefusedError, match="no-such-network"):
        await run(["true"], network="no-such-network")


async def test_output_is_cut_and_marked_while_the_command_goes_on(engine: Engine):
    script = "head -c 30000000 /dev/zero | tr '\\0' x; echo done >&2"
    result = await run(sh(script), max_output_bytes=1000)
    assert result["stdout"] == "x" * 1000 + "\n[cut here: 29999000 more bytes]"
    assert result["stderr"] == "done\n"
    assert len(result["logs"]) < 1100


async def test_what_is_no_text_becomes_text(engine: Engine):
    assert (await run(["printf", "\\377a"]))["stdout"] == "\ufffda"


@pytest.mark.parametrize("end", ["", "exec >&- 2>&-; "])
async def test_too_much_time_ends_the_container_and_what_was_said_is_told(engine: Engine, end: str):
    async def call(limit: float) -> None:
        try:
            async with asyncio.timeout(limit + GONE_SECONDS):
                await run(sh(f"trap '' TERM; echo so far; {end}sleep 600"), timeout=limit)
        finally:
            assert engine.containers() == []

    error, limit = await exceeding(ContainerTimeoutError, call, lambda error: error.stdout, 1.5)
    assert error.stdout == "so far\n"
    assert re.search(rf"over {limit:g} s(.|\n)*so far", str(error))


async def test_cancelling_removes_the_container_and_keeps_what_was_said(engine: Engine):
    executor = DockerExecutor()
    command = sh("trap '' TERM INT; echo so far; sleep 600 & sleep 600")
    running = asyncio.ensure_future(executor.execute({"image": IMAGE, "command": command}))
    await until_it_says(executor, "so far")
    assert (await executor.cancel())["partial_result"] == {
        "stdout": "so far\n",
        "stderr": "",
        "logs": "so far\n",
    }
    running.cancel()
    await asyncio.wait([running], timeout=GONE_SECONDS)
    assert running.cancelled(), "it hangs"
    assert engine.containers() == []


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.06, 0.12, 0.2])
async def test_a_cancellation_at_any_moment_leaves_nothing(engine: Engine, seconds: float):
    running = asyncio.ensure_future(run(["sleep", "600"], stdin="x" * 100_000))
    await asyncio.wait([running], timeout=seconds)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.containers() == []


async def test_a_container_over_its_memory_is_killed_and_the_task_says_so(engine: Engine):
    # The engine begins to watch a container's memory a moment after its start, and misses what was before.
    eats = sh("sleep 1; exec tail /dev/zero")
    for check in (True, False):
        with pytest.raises(
            OutOfMemoryError, match=r"limit of 33554432 bytes \(resources\.memory\)"
        ) as caught:
            await run(eats, resources={"memory": "32m"}, check=check)
        assert caught.value.exit_code == 137
    # What stays below lives.
    kept = sh("head -c 10000000 /dev/zero > /dev/shm/x; echo fine")
    assert (await run(kept, resources={"memory": "64m"}))["stdout"] == "fine\n"


async def test_death_by_another_hand_is_not_taken_for_a_lack_of_memory(engine: Engine):
    with pytest.raises(ContainerFailedError, match="killed by signal 9") as caught:
        await run(sh("sh -c 'kill -9 $$'; exit $?"))
    assert type(caught.value) is ContainerFailedError


async def test_no_more_processes_than_its_limit(engine: Engine):
    script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all"
    with pytest.raises(ContainerFailedError, match="can't fork"):
        await run(sh(script), resources={"pids": 16})


async def test_no_more_processor_than_its_limit(engine: Engine):
    script = "while :; do :; done"
    cpu = "cat /sys/fs/cgroup/cpu/cpuacct.usage /sys/fs/cgroup/cpuacct/cpuacct.usage /sys/fs/cgroup/cpu.stat"
    spent = await run(sh(f"timeout 1 sh -c '{script}'; {cpu} 2>/dev/null; true"), resources={"cpu": 0.1})
    first = spent["stdout"].split()[0 if spent["stdout"][:1].isdigit() else 1]
    seconds = int(first) / (1e9 if spent["stdout"][:1].isdigit() else 1e6)
    assert seconds < 0.5


async def test_it_has_no_rights_beyond_those_of_a_plain_process(engine: Engine):
    status = (await run(["cat", "/proc/self/status"]))["stdout"]
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {facts[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert (await run(sh("ls /sys/class/net; ls /dev | grep -c sd; true")))["stdout"] == "lo\n0\n"


async def test_a_network_of_the_machine_is_refused_also_by_its_id(engine: Engine):
    with engine.client() as client:
        host = client.inspect_network("host")["Id"]
    for name in ("host", host, host[:12], "container:x", "ns:/proc/1/ns/net"):
        with pytest.raises(DockerRefusedError, match="network"):
            await run(["true"], network=name)


async def test_a_named_network_may_be_used(engine: Engine):
    assert (await run(["true"], network="none"))["success"]
    with pytest.raises(EngineRefusedError, match="bridge"):  # this engine has no bridge
        await run(["true"], network="bridge")


async def test_under_the_public_policy_a_container_has_no_network(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    assert (await run(["true"]))["success"]
    with pytest.raises(DockerRefusedError, match="APFLOW_NET_POLICY"):
        await run(["true"], network="bridge")


async def test_volumes_are_read_only_unless_they_are_said_not_to_be(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_DOCKER_VOLUME_ROOTS", str(tmp_path))
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "file").write_text("content")
    volumes = {str(tmp_path / "in"): "/in", str(tmp_path / "out"): {"bind": "/out", "mode": "rw"}}
    result = await run(sh("cp /in/file /out/; touch /in/new; true"), volumes=volumes)
    assert "Read-only file system" in result["stderr"]
    assert (tmp_path / "out" / "file").read_text() == "content"
    assert not (tmp_path / "in" / "new").exists()


async def test_a_kept_container_stays_after_success_and_failure_only(engine: Engine):
    kept = await run(["echo", "kept"], remove=False)
    with pytest.raises(ContainerFailedError):
        await run(["false"], remove=False)
    with pytest.raises(ContainerTimeoutError):
        await run(["sleep", "600"], remove=False, timeout=1)
    left = engine.containers()
    assert len(left) == 2
    with engine.client() as client:
        assert client.logs(kept["container_id"]) == b"kept\n"
        for each in left:
            client.remove_container(each)


async def test_40_at_once_do_not_mix(engine: Engine):
    results = await asyncio.gather(*(run(["echo", str(number)]) for number in range(40)))
    assert [each["stdout"] for each in results] == [f"{number}\n" for number in range(40)]


@pytest.mark.long
async def test_200_at_once_do_not_mix(engine: Engine):
    results = await asyncio.gather(*(run(["echo", str(number)]) for number in range(200)))
    assert [each["stdout"] for each in results] == [f"{number}\n" for number in range(200)]


async def test_runs_in_a_row_leave_no_descriptor_and_no_thread(engine: Engine):
    await leave_nothing(10)


@pytest.mark.long
async def test_1000_in_a_row_leave_no_descriptor_and_no_thread(engine: Engine):
    await leave_nothing(1000)


async def leave_nothing(count: int) -> None:
    def held() -> tuple[int, list[str]]:
        threads = [each.name for each in threading.enumerate() if "apflow-docker_" not in each.name]
        return len(list(Path("/proc/self/fd").iterdir())), sorted(threads)

    await run(["true"], stdin="x")
    before = held()
    for number in range(count):
        await run(["true"] if number % 2 else ["cat"], stdin="x" * (number % 3))
    descriptors, threads = held()
    assert descriptors <= before[0]
    assert Counter(threads) <= Counter(before[1])


async def test_no_secret_is_in_a_log_or_an_error(engine: Engine, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    secret = "s3cret-" + "x" * 20
    faults: list[str] = []
    for inputs in (
        {"command": ["true"]},
        {"command": ["false"]},
        {"command": ["no-such-program"]},
        {"command": ["sleep", "60"], "timeout": 1},
        {"command": ["true"], "resources": {"cpu": 100_000}},
        {"command": ["true"], "image": "no-such-image"},
        {"command": ["true"], "env": {"TOKEN": secret + "\0"}},
        {"command": ["true"], "env": {"TOKEN": secret + "\ud800"}},
    ):
        try:
            faults.append(json.dumps(await run(**{"env": {"TOKEN": secret}, "stdin": secret, **inputs})))
        except DockerError as error:
            faults.append(f"{error!r} {error} {error.__cause__!r}")
    assert len(faults) == 8
    assert secret not in caplog.text
    assert not [each for each in faults if secret in each]
