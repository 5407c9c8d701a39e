"""From the exceptions of LiteLLM to ours. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

from apflow.core.errors import ApflowError, HostNotFoundError, HostUnreachableError
from apflow.core.net.retry_after import read_retry_after
from apflow.executor.llm.errors import (
    LLMAuthenticationError,
    LLMConnectionError,
    LLMContentError,
    LLMError,
    LLMRateLimitError,
    LLMRequestError,
    LLMResponseError,
    LLMServerError,
)

MAX_CAUSE = 1000  # characters of a provider's message
_PREFIXES = re.compile(r"^(litellm\.\w+: |\w+(Error|Exception) - |\w+Error: )+")
_OF_THE_WIRE = (
    "ConnectError",
    "ConnectTimeout",
    "RemoteProtocolError",
    "ReadError",
    "WriteError",
    "ReadTimeout",
)
# Without a key, the clients below LiteLLM fail with errors of several kinds.
_NO_KEY = re.compile(r"Missing credentials|Missing \w+ API Key|api_key.*must be set", re.IGNORECASE)
_OF_THE_FORMAT = ("JSONDecodeError", "ValidationError")


def failure_of(error: Exception, model: str) -> ApflowError:
    """Return our error for one that LiteLLM raised while it called a model.

    An error of apflow in the chain of causes, such as that of the network policy, is returned itself.
    """
    chain = list(_chain(error))
    own = next((each for each in chain if isinstance(each, ApflowError)), None)
    if isinstance(own, (HostUnreachableError, HostNotFoundError)):
        return LLMConnectionError(model, f"the connection failed: {own}")
    if own is not None:
        return own
    cause, status, names = _cause(error), _status(error), _names(chain)
    if _NO_KEY.search(cause):
        return LLMAuthenticationError(model, cause)
    if "ContentPolicyViolationError" in names:
        return LLMContentError(model, cause, status)
    if status == 429:
        return LLMRateLimitError(model, cause, status, _retry_after(error))
    if status in (401, 403):
        return LLMAuthenticationError(model, cause, status)
    if _was_lost(names):
        return LLMConnectionError(model, f"the connection failed: {cause}")
    if _is_unreadable(names, cause):
        return LLMResponseError(model, f"the answer cannot be read: {cause}")
    return _by_status(model, cause, status)


def _by_status(model: str, cause: str, status: int | None) -> LLMError:
    if status is not None and (status >= 500 or status in (408, 409)):
        return LLMServerError(model, cause, status)
    return LLMRequestError(model, cause, status)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, outermost first."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "original_exception", None))
        waiting.extend(one for one in inner if isinstance(one, BaseException))


def _names(chain: list[BaseException]) -> set[str]:
    return {cls.__name__ for each in chain for cls in type(each).__mro__}


def _was_lost(names: set[str]) -> bool:
    """Return whether no answer was received."""
    return not names.isdisjoint(_OF_THE_WIRE)


def _is_unreadable(names: set[str], cause: str) -> bool:
    return not names.isdisjoint(_OF_THE_FORMAT) or "Unable to get json response" in cause


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    try:
        return None if status is None else int(status)
    except (TypeError, ValueError):
        return None


def _cause(error: Exception) -> str:
    """Return what the provider said, without LiteLLM's prefixes."""
    text = _PREFIXES.sub("", str(error)).strip() or type(error).__name__
    text = text.partition(". Handle with `litellm.")[0]
    found = re.search(r"\"message\": ?\"((?:[^\"\\]|\\.)*)\"", text)
    return (found.group(1) if found else text)[:MAX_CAUSE]


def _retry_after(error: Exception) -> float | None:
    """Return the wait in seconds that the provider asks for."""
    response = getattr(error, "response", None)
    for headers in (getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)):
        if isinstance(headers, Mapping):
            value = cast("Mapping[str, str]", headers).get("retry-after")
            if isinstance(value, str):
                return read_retry_after(value, datetime.now(UTC))
    return None
