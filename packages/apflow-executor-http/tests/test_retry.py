"""Repeating what is safe to repeat."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import pytest
from peers.http import HttpPeer

from apflow.executor.http import (
    RestConnectionError,
    RestExecutor,
    RestOutcomeUnknownError,
    RestStatusError,
    RestTimeoutError,
)

QUICK = {"max_attempts": 3, "delay": 0.01}


async def call(peer: HttpPeer, **inputs: Any) -> dict[str, Any]:
    params = {"key": uuid.uuid4().hex, **inputs.pop("params", {})}
    executor = RestExecutor()
    executor.idempotency_key = inputs.pop("idempotency_key", None)
    return await executor.execute({"url": peer.url("/flaky"), "timeout": 10, "params": params, **inputs})


@pytest.mark.parametrize("how", ["status", "drop"])
async def test_what_passes_by_itself_is_tried_again(peer: HttpPeer, how: str):
    result = await call(peer, params={"times": 2, "how": how}, retry=QUICK)
    assert result["json"] == {"calls": 3}


async def test_nothing_is_repeated_unless_told(peer: HttpPeer):
    with pytest.raises(RestStatusError):
        await call(peer)


async def test_after_the_last_attempt_the_last_failure_is_told(peer: HttpPeer):
    with pytest.raises(RestStatusError) as caught:
        await call(peer, params={"times": 5, "status": 502}, retry=QUICK)
    assert caught.value.status_code == 502
    with pytest.raises(RestConnectionError):
        await call(peer, params={"times": 5, "how": "drop"}, retry=QUICK)


@pytest.mark.parametrize("status", [400, 404, 500, 501])
async def test_what_does_not_pass_is_not_repeated_unless_it_is_named(peer: HttpPeer, status: int):
    with pytest.raises(RestStatusError):
        await call(peer, params={"status": status}, retry=QUICK)
    result = await call(peer, params={"status": status}, retry=QUICK | {"on_status": [status]})
    assert result["json"] == {"calls": 2}


@pytest.mark.parametrize("after", ["1", "date"])
async def test_the_server_says_how_long_to_wait(peer: HttpPeer, after: str):
    begun = time.monotonic()
    await call(peer, params={"after": after, "status": 429}, retry=QUICK)
    # A date has no fractions: it may ask for anything up to a second.
    assert time.monotonic() - begun >= (0.9 if after == "1" else 0.0)
    async with asyncio.timeout(30):
        await call(peer, params={"after": "3600"}, retry=QUICK | {"max_delay": 0.1})


async def test_what_cannot_be_tried_again_in_time_fails_at_once_with_its_own_error(peer: HttpPeer):
    async with asyncio.timeout(30):
        with pytest.raises(RestStatusError):
            await call(peer, params={"times": 9, "after": "20"}, retry={"max_attempts": 9}, timeout=10)


async def test_the_time_limit_holds_over_all_attempts(peer: HttpPeer):
    async with asyncio.timeout(30):
        retry = {"max_attempts": 9999, "delay": 0.1, "backoff": 1}  # many minutes
        with pytest.raises((RestTimeoutError, RestStatusError)):
            await call(peer, params={"times": 9999}, retry=retry, timeout=0.4)


async def test_an_empty_retry_means_three_attempts(peer: HttpPeer):
    result = await call(peer, params={"times": 2, "after": "0"}, retry={})
    assert result["json"] == {"calls": 3}


async def test_a_lost_post_is_repeated_only_with_an_idempotency_key_of_the_user(peer: HttpPeer):
    for key in (None, "task:1"):  # the key of the task: the service may not know the header
        with pytest.raises(RestOutcomeUnknownError):
            await call(peer, method="POST", retry=QUICK, params={"how": "drop"}, idempotency_key=key)
    own = {"Idempotency-Key": "order-17"}
    result = await call(peer, method="POST", retry=QUICK, params={"how": "drop"}, headers=own)
    assert result["json"] == {"calls": 2}
