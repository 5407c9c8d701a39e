"""Many calls: at once, and one after the other."""

import asyncio
import threading
import time
from typing import Any

import pytest
from peers.leftovers import held, settled
from peers.sshd import Sshd, an_sshd

from apflow.executor.ssh import SshExecutor, executor


async def in_a_row(server: Sshd, count: int) -> None:
    inputs: dict[str, Any] = {**server.inputs, "command": ["echo", "x"]}
    await SshExecutor().execute(inputs)
    before = held()
    for number in range(count):
        if number % 10:
            assert (await SshExecutor().execute(inputs))["stdout"] == "x\n"
        else:
            with pytest.raises(executor.SshCommandFailedError):
                await SshExecutor().execute({**inputs, "command": "exit 1"})
    await settled(before)
    assert [each for each in threading.enumerate() if "paramiko" in type(each).__module__] == []


async def test_200_at_once_get_past_the_usual_limits_of_a_server(server: Sshd):
    with an_sshd("MaxStartups 10:30:100", username=server.username) as usual:
        before = held()
        inputs = {**usual.inputs, "command": "cat", "timeout": 60}
        calls = [SshExecutor().execute({**inputs, "stdin": str(number)}) for number in range(200)]
        results = await asyncio.gather(*calls)
        assert [each["stdout"] for each in results] == [str(number) for number in range(200)]
        await settled(before)


async def test_100_in_a_row_leave_no_descriptor_and_no_thread(server: Sshd):
    await in_a_row(server, 100)


@pytest.mark.long
async def test_1000_in_a_row_leave_no_descriptor_and_no_thread(server: Sshd):
    await in_a_row(server, 1000)


async def test_waiting_for_a_place_does_not_count_as_the_tasks_time(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(executor, "CALLS", 1)
    began = time.monotonic()
    inputs = {**server.inputs, "command": ["sleep", "0.8"], "timeout": 2.2}
    await asyncio.gather(*(SshExecutor().execute(inputs) for _ in range(3)))
    assert time.monotonic() - began > 2.4
