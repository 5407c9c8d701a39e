"""Batches: one failure fails them, with what had been done."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from apflow.core.concurrency.thread_pool import has_running_calls
from apflow.core.errors import ValidationError
from apflow.executor.crewai import BatchManager
from apflow.testing.modelserver import ModelServer, Reply


def one(role: str, description: str) -> dict[str, Any]:
    return {"agents": [{"role": role, "goal": "Work"}], "tasks": [{"description": description}]}


WORKS = {
    "collect": one("Collector", "Collect {what}"),
    "analyze": one("Analyst", "Analyze {collect}"),
    "report": one("Writer", "Report"),
}


async def test_the_results_of_crews_are_merged_and_their_usage_summed(
    server: ModelServer, llm: dict[str, Any]
):
    server.script += [
        Reply(text, prompt_tokens=10, completion_tokens=2) for text in ("rows", "trends", "done")
    ]
    result = await BatchManager("b", "Batch", WORKS, llm).execute({"what": "sales"})
    assert result["status"] == "completed"
    assert result["result"] == {"collect": "rows", "analyze": "trends", "report": "done"}
    assert (result["token_usage"]["total_tokens"], result["calls"]) == (36, 3)
    sent = [json.dumps(request.body["messages"]) for request in server.requests]
    assert "Collect sales" in sent[0]
    assert "Analyze rows" in sent[1]


async def test_a_crew_that_fails_fails_the_batch_and_says_which_and_what_was_done(
    server: ModelServer, llm: dict[str, Any]
):
    server.script.append(Reply("rows"))
    server.default = Reply("out of order", status=503)
    result = await BatchManager("b", "Batch", WORKS, llm).execute({"what": "sales"})
    assert (result["status"], result["error_type"]) == ("failed", "LLMServerError")
    assert (result["failed_crew"], "result" in result) == ("analyze", False)
    assert result["error"].startswith("Crew 2 of 3 failed. Crew 'analyze' failed at task 1 of 1")
    assert "Completed before: 'collect'." in result["error"]
    assert result["crews"]["collect"]["result"] == "rows"
    assert (result["crews"]["analyze"]["status"], "report" in result["crews"]) == ("failed", False)
    assert len(server.requests) == 1 + llm["retry"]["max_attempts"]


async def test_all_crews_are_checked_before_the_first_call(server: ModelServer, llm: dict[str, Any]):
    works = {**WORKS, "report": one("Writer", "Report to {reader}")}
    with pytest.raises(ValidationError, match=r"'report'.*\{reader\}"):
        await BatchManager(works=works, llm=llm).execute({"what": "sales"})
    assert server.requests == []


async def test_a_cancelled_batch_keeps_what_was_done(server: ModelServer, llm: dict[str, Any]):
    server.script += [Reply("rows"), Reply("one two three", hang_after=1)]
    batch = BatchManager(works=WORKS, llm=llm | {"stream": True})
    running = asyncio.create_task(batch.execute({"what": "sales"}))
    async with asyncio.timeout(30):
        while len(server.requests) < 2 or server.answering < 1:
            await asyncio.sleep(0.01)
    partial = (await batch.cancel())["partial_result"]
    running.cancel()
    await asyncio.wait([running])
    assert partial["crews"]["collect"]["result"] == "rows"
    assert partial["crews"]["analyze"]["status"] == "cancelled"
    assert partial["cancelled_at"].startswith("crew 'analyze', task 1 of 1")
    server.until(lambda: server.answering == 0)
    assert (len(server.requests), has_running_calls()) == (2, False)
