"""What is left of a command that was ended, and which servers are not waited for."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers.limits import exceeding
from peers.sshd import Sshd, an_sshd

from apflow.executor.ssh import (
    SshCommandFailedError,
    SshConnectionError,
    SshExecutor,
    SshTimeoutError,
    connection,
    executor,
)
from apflow.testing.proxy import Proxy, a_proxy

# A command, a child of it, and one that has left its session's leader; both ignore being asked to end.
STUBBORN = "trap '' TERM HUP; sleep 71.5 & (sleep 71.5; :) & echo started; sleep 71.5"


@pytest.fixture
def proxy(server: Sshd) -> Iterator[Proxy]:
    with a_proxy((server.host, server.port)) as proxy:
        yield proxy


def through(proxy: Proxy, server: Sshd, **inputs: Any) -> dict[str, Any]:
    known = server.known_hosts.replace(str(server.port), str(proxy.port))
    return {**server.inputs, "port": proxy.port, "known_hosts": known, **inputs}


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until(claim: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what other processes do."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(inputs: dict[str, Any]) -> AsyncIterator[tuple[SshExecutor, asyncio.Task[Any]]]:
    """A call whose command has said that it has started. It is over at the end."""
    ssh = SshExecutor()
    running = asyncio.create_task(ssh.execute(inputs))
    try:
        await until(lambda: ssh._session and "started" in ssh._session.stdout.text)
        yield ssh, running
    finally:
        running.cancel()
        await asyncio.wait([running])


@contextmanager
def silent(greeting: bytes = b"") -> Iterator[int]:
    """A server that takes connections, says a greeting and nothing more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        code = (
            "import socket, sys\nlistener = socket.socket(fileno=int(sys.argv[1]))\nheld = []\n"
            "while True:\n    held.append(listener.accept()[0])\n    held[-1].sendall(sys.argv[2].encode())\n"
        )
        command = [sys.executable, "-c", code, str(listener.fileno()), greeting.decode()]
        process = stack.enter_context(subprocess.Popen(command, pass_fds=[listener.fileno()]))
        stack.callback(process.kill)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("login", ["server", "own_server"])
async def test_a_timeout_ends_the_command_and_its_children(login: str, request: pytest.FixtureRequest):
    server: Sshd = request.getfixturevalue(login)
    error, limit = await exceeding(
        SshTimeoutError,
        lambda limit: SshExecutor().execute({**server.inputs, "command": STUBBORN, "timeout": limit}),
        lambda error: "started" in str(error),
        2.5,
    )
    assert f"over {limit:g} s while the command ran.\nstdout: started" in str(error)
    await until(lambda: not server.commands("sleep 71.5"))


@pytest.mark.parametrize("login", ["server", "own_server"])
async def test_a_cancelled_command_is_gone_with_its_children(login: str, request: pytest.FixtureRequest):
    server: Sshd = request.getfixturevalue(login)
    async with started({**server.inputs, "command": STUBBORN}) as (ssh, running):
        await until(lambda: len(server.commands("sleep 71.5")) == 3)
        assert await ssh.cancel() == {
            "status": "cancelled",
            "partial_result": {"stdout": "started\n", "stderr": ""},
        }
        running.cancel()
        await asyncio.wait([running], timeout=30)
        assert running.cancelled(), "it hangs"
        await until(lambda: not server.commands("sleep 71.5"))


async def test_a_flood_of_output_does_not_hold_up_the_end(server: Sshd):
    command = "echo started; yes flood | tee /dev/stderr"
    async with started({**server.inputs, "command": command, "max_output_bytes": 1000}) as (ssh, running):
        await until(lambda: ssh._session and ssh._session.stdout.total > 10 << 20)
        async with asyncio.timeout(30):
            running.cancel()
            await asyncio.wait([running])
        await until(lambda: not server.commands("yes flood"))


async def test_a_command_may_end_in_good_order_when_it_is_asked_to(server: Sshd):
    command = "trap 'echo ended; exit' TERM; echo started; while :; do sleep 0.05; done"
    async with started({**server.inputs, "command": command}) as (ssh, running):
        running.cancel()
        await asyncio.wait([running])
        assert ssh._session is not None
        assert "ended" in ssh._session.stdout.text


async def test_a_command_ends_when_the_connection_is_cut(server: Sshd, proxy: Proxy):
    async with started(through(proxy, server, command=STUBBORN)) as (_, running):
        proxy.lose_all()
        with pytest.raises(SshConnectionError, match=r"lost while the command ran(.|\n)*stdout: started"):
            await running
        await until(lambda: not server.commands("sleep 71.5"))


async def test_a_command_ends_when_this_program_is_killed(server: Sshd):
    inputs = {**server.inputs, "command": STUBBORN}
    code = (
        "import asyncio, json, sys\nfrom apflow.executor.ssh import SshExecutor\n"
        "asyncio.run(SshExecutor().execute(json.loads(sys.argv[1])))"
    )
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", code, json.dumps(inputs))
    await until(lambda: len(server.commands("sleep 71.5")) == 3)
    program.kill()
    await program.wait()
    await until(lambda: not server.commands("sleep 71.5"))


@pytest.mark.parametrize("login", ["server", "own_server"])
@pytest.mark.parametrize(
    "script",
    ["sleep 72.5 & echo hi", "sleep 72.5 >/dev/null & echo hi", "(sh -c 'sleep 72.5; :' &); echo hi"],
)
async def test_children_that_hold_the_output_do_not_hold_up_the_end(
    login: str, script: str, request: pytest.FixtureRequest
):
    server: Sshd = request.getfixturevalue(login)
    result = await SshExecutor().execute({**server.inputs, "command": f"{script}; exit 0", "timeout": 60})
    assert (result["stdout"], result["success"]) == ("hi\n", True)
    assert "process group was ended" in result["note"]
    await until(lambda: not server.commands("sleep 72.5"))


async def test_children_that_go_on_talking_do_not_hold_up_the_end(server: Sshd):
    inputs = {**server.inputs, "command": "yes talk & echo hi; exit 3", "max_output_bytes": 1000}
    with pytest.raises(SshCommandFailedError, match=r"exit code 3\. A process that the command"):
        await SshExecutor().execute({**inputs, "timeout": 60})
    await until(lambda: not server.commands("yes talk"))


async def test_children_that_have_left_the_group_do_not_hold_up_the_end(server: Sshd):
    result = await SshExecutor().execute(
        {**server.inputs, "command": "setsid sleep 72.5 & sleep 0.3; echo hi"}
    )
    assert (result["stdout"], "note" in result) == ("hi\n", True)
    [pid] = server.commands("sleep 72.5")
    await SshExecutor().execute({**server.inputs, "command": ["kill", str(pid)]})


async def test_all_that_a_command_said_before_its_end_is_read(server: Sshd, proxy: Proxy):
    command = "sleep 72.5 & head -c 5000000 /dev/zero | tr '\\0' x; exit"
    result = await SshExecutor().execute(
        through(proxy, server, command=command, max_output_bytes=5_000_000, timeout=60)
    )
    assert result["stdout"] == "x" * 5_000_000


async def test_a_server_that_dies_in_the_middle_is_told_as_that(server: Sshd):
    with an_sshd() as mortal:
        async with started({**mortal.inputs, "command": STUBBORN}) as (_, running):
            mortal.send(signal.SIGKILL)
            with pytest.raises(SshConnectionError, match="while the command ran"):
                await running
            await until(lambda: not mortal.commands("sleep 71.5"))


async def test_a_server_that_gives_no_sign_of_life_is_not_waited_for(
    server: Sshd, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "SIGN_SECONDS", 0.4)  # four times that is long, also on a busy machine
    async with started(through(proxy, server, command="echo started; sleep 2; echo done")) as (_, running):
        assert (await running)["stdout"] == "started\ndone\n"  # it is asked, and answers
    async with started(through(proxy, server, command="echo started; sleep 73.5")) as (_, running):
        proxy.stall()
        with pytest.raises(SshConnectionError, match="no sign of life"):
            await running
    proxy.stop()
    await until(lambda: not server.commands("sleep 73.5"))


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-Silent\r\n"])
async def test_a_server_that_hangs_before_the_login_is_given_up(
    greeting: bytes, server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    stage = "agreeing on keys" if greeting else "waiting for its greeting"
    with silent(greeting) as port:
        inputs = {**server.inputs, "port": port, "command": "true"}
        with pytest.raises(SshTimeoutError, match=rf"over 1 s while {stage}"):
            await SshExecutor().execute({**inputs, "timeout": 1})
        monkeypatch.setattr(executor, "LOGIN_SECONDS", 0.8)
        with pytest.raises(SshTimeoutError, match=rf"over 0\.8 s while {stage}"):
            await SshExecutor().execute({**inputs, "timeout": 1000})


@pytest.mark.parametrize("stage", ["logging in", "starting a shell"])
async def test_a_server_that_hangs_during_the_login_is_given_up(stage: str, server: Sshd, proxy: Proxy):
    ssh = SshExecutor()

    def stall(_piece: bytes) -> bool:
        if ssh._session is not None and ssh._session.stage == stage:
            proxy.stall()
        return False

    proxy.cut_before = stall

    async def call(limit: float) -> None:
        proxy.pass_on()
        async with asyncio.timeout(limit + 30):
            await ssh.execute(through(proxy, server, command="true", timeout=limit))

    error, _ = await exceeding(SshTimeoutError, call, lambda error: stage in str(error), 2)
    assert f"while {stage}" in str(error)


@pytest.mark.parametrize("stage", ["agreeing on keys", "logging in", "starting a shell"])
async def test_a_server_that_goes_away_during_the_login_is_told_as_that(
    stage: str, server: Sshd, proxy: Proxy
):
    ssh = SshExecutor()
    proxy.cut_before = lambda _: ssh._session is not None and ssh._session.stage == stage
    with pytest.raises(SshConnectionError, match=f"lost while {stage}"):
        await ssh.execute(through(proxy, server, command="true"))


async def test_a_server_that_takes_nothing_any_more_does_not_hold_up_the_end(server: Sshd, proxy: Proxy):
    inputs = through(proxy, server, command="echo started; sleep 74.5", stdin="x" * (8 << 20))
    async with started(inputs) as (_, running):
        proxy.stall()
        async with asyncio.timeout(30):
            running.cancel()
            await asyncio.wait([running])
    proxy.stop()
    await until(lambda: not server.commands("sleep 74.5"))


async def test_what_speaks_no_ssh_is_told_as_that(server: Sshd):
    with (
        silent(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200) as port,
        pytest.raises(SshConnectionError, match="greeting"),
    ):
        await SshExecutor().execute({**server.inputs, "port": port, "command": "true"})


@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25])
async def test_a_cancellation_at_any_moment_leaves_nothing(after: float, server: Sshd):
    files = descriptors()
    running = asyncio.create_task(SshExecutor().execute({**server.inputs, "command": ["sleep", "75.5"]}))
    await asyncio.sleep(after)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not server.commands("sleep 75.5"))
    await until(lambda: descriptors() <= files)
