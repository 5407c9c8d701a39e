"""Calls that do not come to their own end: cancelled, too long, too large, cut off."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from peers.a2aagent import BINDINGS, VERSIONS, A2aAgent, a2a_agent
from peers.apflowserver import until

from apflow.executor.a2a import A2aExecutor, A2aTimeoutError, A2aTooLargeError

TRANSPORTS = ("jsonrpc", "http+json", "grpc")
POLL = {"use_streaming": False, "poll_interval": 0.02}


def inputs(agent: A2aAgent, message: str, **more: Any) -> dict[str, Any]:
    return {"agent": agent.url, "message": message, "timeout": 30, **more}


@pytest.mark.parametrize("more", [{}, POLL], ids=["stream", "poll"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("binding", BINDINGS)
async def test_cancelling_the_task_cancels_that_of_the_agent(
    binding: str, version: str, more: dict[str, Any]
):
    with a2a_agent([binding], version) as agent:
        executor = A2aExecutor()
        running = asyncio.create_task(executor.execute(inputs(agent, "hold", **more)))
        await until(lambda: agent.working)
        [task_id] = agent.working
        await until(lambda: executor._agent_call is not None and executor._agent_call.task_id == task_id)
        partial = await executor.cancel()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert partial is not None
        assert partial["partial_result"]["task_id"] == task_id
        assert agent.cancelled == [task_id]
        await until(lambda: not agent.working)


async def test_a_cancellation_at_any_moment_reaches_the_agent(own_agent: A2aAgent):
    for moment in (0.0, 0.005, 0.01, 0.02, 0.05, 0.2):
        running = asyncio.create_task(A2aExecutor().execute(inputs(own_agent, "hold")))
        await asyncio.sleep(moment)
        async with asyncio.timeout(30):
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
        await until(lambda: not own_agent.working)
    begun = {each.message_id for each in own_agent.messages}
    assert len(own_agent.cancelled) == len(begun)


async def test_a_task_that_is_not_known_yet_is_cancelled_once_it_is(own_agent: A2aAgent):
    running = asyncio.create_task(A2aExecutor().execute(inputs(own_agent, "late")))
    await until(lambda: own_agent.messages)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert len(own_agent.cancelled) == 1
    await until(lambda: not own_agent.working)


async def test_a_timeout_cancels_the_task_of_the_agent(own_agent: A2aAgent):
    with pytest.raises(A2aTimeoutError, match="longer than 3 s") as caught:
        await A2aExecutor().execute(inputs(own_agent, "hold", timeout=3))
    assert own_agent.cancelled == [caught.value.task_id]
    await until(lambda: not own_agent.working)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_flood_is_stopped_at_the_limit(own_agent: A2aAgent, transport: str):
    given = inputs(own_agent, "flood", transport=transport, max_output_bytes=100_000)
    with pytest.raises(A2aTooLargeError, match="100000 bytes"):
        await A2aExecutor().execute(given)
    await until(lambda: not own_agent.working)
    assert len(own_agent.cancelled) == 1


@pytest.mark.parametrize("more", [{}, POLL], ids=["stream", "poll"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_answer_that_is_too_large_is_refused(agent: A2aAgent, transport: str, more: dict[str, Any]):
    for size in (200_000, 3_000_000):  # read and then refused; not even read
        given = inputs(agent, f"large {size}", transport=transport, max_output_bytes=100_000, **more)
        with pytest.raises(A2aTooLargeError, match="max_output_bytes"):
            await A2aExecutor().execute(given)
    fits = inputs(agent, "large 200000", transport=transport, max_output_bytes=300_000, **more)
    assert len((await A2aExecutor().execute(fits))["text"]) == 200_000


async def test_a_task_that_ends_is_not_cancelled(agent: A2aAgent, caplog: pytest.LogCaptureFixture):
    before = len(agent.cancelled)
    with caplog.at_level(logging.WARNING):
        await A2aExecutor().execute(inputs(agent, "work"))
        await A2aExecutor().execute(inputs(agent, "fail it"))
    assert len(agent.cancelled) == before
    assert [each.message for each in caplog.records if each.name.startswith("apflow")] == []
