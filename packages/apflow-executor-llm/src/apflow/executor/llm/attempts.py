"""Repeating a call that failed, and falling back on other models: the only place where either is done."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from apflow.core.errors import ApflowError
from apflow.executor.llm.call import Answer, Caller
from apflow.executor.llm.errors import LLMCallError, LLMError, LLMRateLimitError, LLMStreamError
from apflow.executor.llm.request import Message, Retry, Target

logger = logging.getLogger(__name__)

Json = Any


async def answer_of(
    caller: Caller,
    targets: tuple[Target, ...],
    retry: Retry,
    messages: list[Message],
    response_format: dict[str, Json] | None,
) -> Answer:
    """Return the answer of the first model that gives one.

    A call is repeated, and another model called, only if no token was received.

    Raises:
        LLMError: what the last model failed with.
        AddressRefusedError, HostNotFoundError, SecretHostRefusedError: see `apflow.core.net.connect`.
    """
    for target in targets[:-1]:
        try:
            return await _repeated(caller, target, retry, messages, response_format)
        except LLMStreamError:
            raise
        except LLMCallError as error:
            logger.info("Falling back from %s: %s", target.model, error)
    return await _repeated(caller, targets[-1], retry, messages, response_format)


async def _repeated(
    caller: Caller,
    target: Target,
    retry: Retry,
    messages: list[Message],
    response_format: dict[str, Json] | None,
) -> Answer:
    attempt = 1
    while True:
        try:
            return await caller.call(target, messages, response_format)
        except LLMError as error:
            wait = wait_after(error, attempt, retry)
            if wait is None:
                raise
        await asyncio.sleep(wait)
        attempt += 1


def wait_after(error: ApflowError, attempt: int, retry: Retry) -> float | None:
    """Return the seconds to wait before a call is repeated; None if it is not repeated."""
    if not isinstance(error, LLMError) or not error.is_transient or attempt >= retry.max_attempts:
        return None
    asked = error.retry_after if isinstance(error, LLMRateLimitError) else None
    if asked is not None:
        return asked if asked <= retry.max_delay else None
    return retry.wait(attempt) * random.uniform(0.5, 1)  # noqa: S311 - so that callers do not meet
