"""Which failed calls the client repeats, and after how long. Pure."""

from __future__ import annotations

import random
from typing import Any, Final, TypedDict

from tenacity import RetryCallState, retry_if_exception, stop_before_delay
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from apflow.client.call import Call
from apflow.client.errors import ServerBusyError, ServerError, ServerUnreachableError

AWAY: Final = (502, 503, 504)  # statuses of a server or a proxy that is unavailable for a while
MAX_WAIT_SECONDS: Final = 5.0  # maximum seconds between two attempts, unless the server asks for more


class Rules(TypedDict):
    """Arguments of `tenacity`, with and without asyncio."""

    stop: stop_base
    wait: Any
    retry: retry_base
    reraise: bool


def rules_of(call: Call, patience: float) -> Rules:
    """Return the rules for repeating a call within `patience` seconds."""
    return {
        "stop": stop_before_delay(patience),
        "wait": _wait,
        "retry": retry_if_exception(lambda error: may_be_repeated(call, error)),
        "reraise": True,
    }


def may_be_repeated(call: Call, error: BaseException) -> bool:
    """Return whether to repeat a call after an error."""
    if isinstance(error, ServerUnreachableError):
        return call.is_repeatable or not error.was_sent
    return may_pass(error) and (call.is_repeatable or isinstance(error, ServerBusyError))


def may_pass(error: BaseException) -> bool:
    """Return whether an error is temporary."""
    if isinstance(error, ServerError):
        return error.status in AWAY
    return isinstance(error, ServerBusyError | ServerUnreachableError)


def wait_after(error: BaseException | None, attempt: int) -> float:
    """Return the seconds until the next attempt: as the server asks, or a back-off with jitter."""
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, float):
        return asked
    grown: float = min(MAX_WAIT_SECONDS, 0.1 * 2 ** min(attempt - 1, 10))
    return grown * random.uniform(0.5, 1)  # noqa: S311 - jitter


def _wait(state: RetryCallState) -> float:
    return wait_after(state.outcome.exception() if state.outcome else None, state.attempt_number)
