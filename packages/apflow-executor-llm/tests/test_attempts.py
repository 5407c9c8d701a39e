"""Retries, `Retry-After` and fallback models: each is done in one place, and a test counts the calls."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.executor.llm import LLMAuthenticationError, LLMRateLimitError, LLMRequestError
from apflow.executor.llm.attempts import wait_after
from apflow.executor.llm.request import Retry
from apflow.testing.modelserver import ModelServer, Reply

LIMITED = Reply("slow down", status=429, headers={"Retry-After": "1"})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_rate_limit_causes_one_more_call_after_the_wait_that_the_server_asks_for(
    ask: Any, server: ModelServer, model: str, stream: bool
):
    server.script += [LIMITED, Reply("now")]
    assert (await ask(model, stream=stream))["content"] == "now"
    first, second = server.requests
    assert second.at - first.at >= 1.0


async def test_without_retries_a_rate_limit_is_one_call(ask: Any, server: ModelServer, model: str):
    server.default = LIMITED
    with pytest.raises(LLMRateLimitError) as caught:
        await ask(model, retry={"max_attempts": 1})
    assert len(server.requests) == 1
    assert caught.value.retry_after == 1.0
    assert "asks to wait 1 s" in str(caught.value)


async def test_attempts_are_counted(ask: Any, server: ModelServer, model: str):
    server.default = Reply("oops", status=500)
    with pytest.raises(Exception, match="oops"):
        await ask(model, retry={"max_attempts": 4, "delay": 0})
    assert len(server.requests) == 4


async def test_what_will_not_pass_is_not_repeated(ask: Any, server: ModelServer, model: str):
    for status, kind in ((400, LLMRequestError), (401, LLMAuthenticationError)):
        server.requests.clear()
        server.default = Reply("no", status=status)
        with pytest.raises(kind):
            await ask(model)
        assert len(server.requests) == 1


async def test_a_failing_model_is_replaced_by_the_next_and_the_result_says_which_answered(
    ask: Any, server: ModelServer, model: str
):
    server.default = lambda request: (
        Reply("I am here.") if request.body["model"] == "third" else Reply("no", status=404)
    )
    others = [
        {"model": f"openai/{name}", "api_base": server.openai_url, "api_key": f"key-of-{name}"}
        for name in ("second", "third", "fourth")
    ]
    result = await ask(model, fallback_models=others)
    assert (result["model"], result["content"]) == ("openai/third", "I am here.")
    assert [request.body["model"] for request in server.requests] == [
        model.partition("/")[2],
        "second",
        "third",
    ]
    assert server.requests[-1].api_key == "key-of-third"


async def test_a_wait_that_is_too_long_leads_to_the_next_model_at_once(ask: Any, server: ModelServer):
    server.script += [Reply("no", status=429, headers={"Retry-After": "3600"}), Reply("other")]
    other = {"model": "openai/other", "api_base": server.openai_url, "api_key": "k"}
    assert (await ask(fallback_models=[other]))["model"] == "openai/other"


def test_the_wait_grows_and_has_a_limit():
    retry = Retry(max_attempts=10, delay=1, backoff=2, max_delay=5)
    error = LLMRateLimitError("m", "no", 429, None)
    for attempt, longest in ((1, 1), (2, 2), (3, 4), (4, 5), (9, 5)):
        wait = wait_after(error, attempt, retry)
        assert wait is not None
        assert longest / 2 <= wait <= longest
    assert wait_after(error, 10, retry) is None
    assert wait_after(LLMRateLimitError("m", "no", 429, 3.5), 1, retry) == 3.5
    assert wait_after(LLMRateLimitError("m", "no", 429, 5.5), 1, retry) is None
