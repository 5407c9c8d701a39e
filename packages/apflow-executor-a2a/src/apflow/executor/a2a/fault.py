"""The errors of the SDK and its libraries as errors of this package."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import grpc.aio
import httpx
from a2a.client.errors import A2AClientError, AgentCardResolutionError
from a2a.utils.errors import A2AError
from google.protobuf.json_format import Error as JsonFormatError
from google.protobuf.message import Error as ProtobufError

from apflow.core.errors import ApflowError
from apflow.executor.a2a.errors import (
    A2aError,
    A2aRefusedError,
    A2aResponseError,
    A2aTooLargeError,
    A2aUnauthorizedError,
    A2aUnreachableError,
)

SHOWN: Final = 500  # characters of what the agent or a library says

_UNAUTHORIZED: Final = (401, 403, 407)
# What the SDK raises for answers that it cannot read, besides its own errors.
_UNREADABLE: Final = (
    JsonFormatError, ProtobufError, ValueError, TypeError, AttributeError, LookupError, RecursionError,
    NotImplementedError,
)  # fmt: skip


@contextmanager
def reported(where: str, limit: int = 0) -> Generator[None]:
    """Raise errors of the SDK and its libraries as errors of this package. For calls of the SDK only.

    Args:
        limit: how many bytes an answer may have.

    Raises:
        A2aError: one of its kinds.
    """
    try:
        yield
    except ApflowError:
        raise
    except (A2AError, httpx.HTTPError, grpc.aio.AioRpcError, *_UNREADABLE) as error:
        raise error_of(error, where, limit) from error


def error_of(error: BaseException, where: str, limit: int = 0) -> A2aError:
    """Return the error of this package for one of the SDK."""
    causes = list(_causes(error))
    found = next((each for each in (_of_transport(cause, where, limit) for cause in causes) if each), None)
    is_of_protocol = isinstance(error, A2AError) and not isinstance(error, A2AClientError)
    if is_of_protocol and (found is None or isinstance(found, A2aRefusedError)):
        return A2aRefusedError(where, _shown(error), type(error).__name__)  # it says more than the status
    if found is not None:
        return found
    text = _shown(error)
    if isinstance(error, A2AClientError) and text.startswith("JSON-RPC Error"):
        return A2aRefusedError(where, text)
    return A2aResponseError(where, text)


def _of_transport(error: BaseException, where: str, limit: int) -> A2aError | None:
    if isinstance(error, httpx.HTTPStatusError):
        status = f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
        if error.response.status_code in _UNAUTHORIZED:
            return A2aUnauthorizedError(where, status)
        if error.response.has_redirect_location:
            status += ", a redirect, which is not followed"
        return A2aRefusedError(where, status)
    if isinstance(error, httpx.TransportError):
        return A2aUnreachableError(where, _shown(error))
    if isinstance(error, grpc.aio.AioRpcError):
        return _of_grpc(error, where, limit)
    return None


def _of_grpc(error: grpc.aio.AioRpcError, where: str, limit: int) -> A2aError:
    code = error.code()
    text = f"{code.name}: {(error.details() or '')[:SHOWN]}"
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return A2aUnreachableError(where, text)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return A2aUnauthorizedError(where, text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:  # raised on this side
        return A2aTooLargeError(where, limit)
    return A2aRefusedError(where, text)


def card_fault(error: AgentCardResolutionError) -> str:
    """Return what was wrong with a card, without its URL, which may hold a credential."""
    if error.status_code is not None:
        return f"HTTP {error.status_code}"
    cause = error.__cause__
    return "it is not valid" if cause is None else f"it is not valid: {_shown(cause)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())[:SHOWN].rstrip(".")
    return text or type(error).__name__
