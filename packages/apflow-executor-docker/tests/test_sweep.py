import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from peers.engine import IMAGE, Engine

from apflow.executor.docker import DockerExecutor
from apflow.executor.docker import sweep as sweeping
from apflow.executor.docker.owner import (
    HOST,
    KEEP,
    PID,
    RUN,
    STARTED,
    Owner,
    is_left,
    this_process,
)

PROGRAM = f"""
import asyncio
from apflow.executor.docker import DockerExecutor
inputs = {{"image": "{IMAGE}", "command": ["sleep", "600"], "timeout": 600, "pull": "never"}}
asyncio.run(DockerExecutor().execute(inputs))
"""


@pytest.fixture(autouse=True)
def not_swept_yet():
    """Make each test the first use of its engine."""
    sweeping._swept.clear()


async def run(*command: str) -> dict[str, Any]:
    return await DockerExecutor().execute({"image": IMAGE, "command": list(command), "pull": "never"})


@contextmanager
def another_process(engine: Engine) -> Generator[subprocess.Popen[bytes]]:
    """Start a process that runs a container; at the end kill it."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM])
    until = time.monotonic() + 30
    try:
        while len(engine.running()) != 1:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and wait for its end without taking notice of it."""
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def foreign(engine: Engine, labels: Mapping[str, str]) -> str:
    """Create a container with any labels, as another program could."""
    with engine.client() as client:
        made = client.create_container_from_config({"Image": IMAGE, "Cmd": ["true"], "Labels": dict(labels)})
        return str(made["Id"])


def remove(engine: Engine, *containers: str) -> None:
    with engine.client() as client:
        for each in containers:
            client.remove_container(each)


async def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(engine: Engine):
    with another_process(engine) as process:
        (living,) = engine.running()
        await run("true")
        assert engine.running() == [living]
        kill(process)
        sweeping._swept.clear()
        await run("true")
        assert engine.containers() == []


async def test_only_what_processes_of_this_host_left_is_removed(engine: Engine):
    here = this_process()
    gone = Owner(here.host, 2**22 + 1, "1")  # beyond the highest number of a process
    others = [
        foreign(engine, {}),
        foreign(engine, {"org.other": "1"}),
        foreign(engine, {HOST: here.host}),
        foreign(engine, replace(gone, host="elsewhere/boot/1").labels("run", None, is_kept=False)),
        foreign(engine, Owner(here.host, os.getppid(), "").labels("run", None, is_kept=False)),
    ]
    left = [
        foreign(engine, gone.labels("run", None, is_kept=False)),
        foreign(engine, gone.labels("run", None, is_kept=True)),  # to be kept at its end, but never started
        foreign(
            engine, replace(gone, pid=os.getppid()).labels("run", None, is_kept=False)
        ),  # a later process
        foreign(engine, here.labels("a run of this process that has ended", None, is_kept=False)),
    ]
    await run("true")
    assert sorted(engine.containers()) == sorted(others)
    assert not {*left} & {*others}
    remove(engine, *others)


async def test_what_goes_on_in_this_process_is_not_swept(engine: Engine):
    running = asyncio.ensure_future(run("sleep", "600"))
    while len(engine.running()) != 1:
        await asyncio.sleep(0.05)
    sweeping._swept.clear()
    await run("true")
    assert len(engine.running()) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_kept_container_is_not_swept(engine: Engine):
    command = {"image": IMAGE, "command": ["true"], "remove": False}
    kept = (await DockerExecutor().execute(command))["container_id"]
    sweeping._swept.clear()
    await run("true")
    assert engine.containers() == [kept]
    remove(engine, kept)


HERE = Owner("host", 10, "100")


def labels(**changed: str) -> dict[str, str]:
    return {HOST: "host", PID: str(2**22 + 1), STARTED: "1", RUN: "run"} | {
        f"apflow.{name}": value for name, value in changed.items()
    }


@pytest.mark.parametrize(
    ("given", "state", "expected"),
    [
        (labels(), "running", True),
        (labels(), "exited", True),
        (labels(host="other"), "running", False),
        (labels(pid="x"), "running", False),
        (labels(pid=""), "running", False),
        (labels(pid="-1"), "running", False),
        (labels(pid="0"), "running", False),
        (labels(pid="1"), "running", True),  # that number is now another process
        (labels(pid="1", started=""), "running", False),
        (labels(pid="10", started="100"), "running", True),
        (labels(pid="10", started="100", run="active"), "running", False),
        (labels(keep="true"), "exited", False),
        (labels(keep="true"), "dead", False),
        (labels(keep="true"), "running", True),
        (labels(keep="true"), "created", True),
        (labels(pid="10", started="100", keep="true"), "exited", False),
        ({HOST: "host"}, "running", False),
        ({}, "running", False),
    ],
)
def test_what_is_left_is_decided_by_the_labels(given: dict[str, str], state: str, expected: bool):
    assert is_left(given, state, HERE, {"active"}) is expected


def test_a_container_tells_its_process():
    me = this_process()
    assert me.labels("run", None, is_kept=False)[PID] == str(os.getpid())
    assert is_left(me.labels("run", None, is_kept=False), "running", me, set())
    assert not is_left(me.labels("run", None, is_kept=False), "running", me, {"run"})
    assert KEEP in me.labels("run", None, is_kept=True)
