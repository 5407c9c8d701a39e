"""Error responses: a JSON-RPC code, an HTTP status and a message.

`fault_of` maps each error to its response. An error of the core is returned with its type and facts
(`error_json`). An unexpected error is logged under an incident id, and the response contains only that id.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from enum import IntEnum

from apflow.core.errors import (
    ApflowError,
    ConflictError,
    ExecutorNotFoundError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    PluginError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
)
from apflow.core.model.task import Json
from apflow.core.service.error_json import data_of

logger = logging.getLogger(__name__)

RETRY_AFTER = 5  # seconds, where nothing better is known


class Code(IntEnum):
    """The codes of errors, as JSON-RPC knows them or leaves them to us."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    NOT_FOUND = -32001
    FORBIDDEN = -32003
    CONFLICT = -32009
    LIMIT = -32010


class HttpFault(Exception):  # noqa: N818 - an answer, seen from the caller
    """An error response."""

    def __init__(
        self,
        status: int,
        code: Code,
        message: str,
        data: Json = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.data = status, code, message, data
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Json]:
        """Return it as the error object of JSON-RPC."""
        error: dict[str, Json] = {"code": int(self.code), "message": self.message}
        return error if self.data is None else error | {"data": self.data}


class UnauthorizedFault(HttpFault):
    """The credentials do not identify a caller (RFC 6750, section 3)."""

    def __init__(self, problem: str = "") -> None:
        challenge = 'Bearer realm="apflow"'
        if problem:
            challenge += f', error="invalid_token", error_description="{problem}"'
        message = f"The token is refused: {problem}." if problem else "A bearer token is needed."
        super().__init__(401, Code.FORBIDDEN, message, headers={"WWW-Authenticate": challenge})


class RefusedFault(HttpFault):
    """Not served at all: this caller, or this way of calling."""

    def __init__(self, message: str) -> None:
        super().__init__(403, Code.FORBIDDEN, message)


class MalformedFault(HttpFault):
    """A request that is not what its protocol says."""

    def __init__(self, message: str, code: Code = Code.INVALID_REQUEST, status: int = 400) -> None:
        super().__init__(status, code, message)


class InvalidFault(HttpFault):
    """Parameters that are not what they should be."""

    def __init__(self, error: InvalidInputError) -> None:
        super().__init__(400, Code.INVALID_PARAMS, str(error), data_of(error))


class TooLargeFault(HttpFault):
    """A request with more in it than is taken."""

    def __init__(self, message: str) -> None:
        super().__init__(413, Code.LIMIT, message)


class TooManyFault(HttpFault):
    """More than is taken at this moment."""

    def __init__(self, message: str, retry_after: float = RETRY_AFTER, data: Json = None) -> None:
        seconds = max(1, round(retry_after))
        super().__init__(429, Code.LIMIT, message, data, {"Retry-After": str(seconds)})


class UnavailableFault(HttpFault):
    """A resource that the response needs is not available now."""

    def __init__(self, message: str, code: Code = Code.INTERNAL) -> None:
        super().__init__(503, code, message, headers={"Retry-After": str(RETRY_AFTER)})


# The first that fits. A setting that cannot be read is the server's fault, not the caller's.
_FAULTS: tuple[tuple[type[Exception], int, Code], ...] = (
    (InvalidInputError, 422, Code.INVALID_PARAMS),
    (NotFoundError, 404, Code.NOT_FOUND),
    (ExecutorNotFoundError, 404, Code.NOT_FOUND),
    (ForbiddenError, 403, Code.FORBIDDEN),
    (ConflictError, 409, Code.CONFLICT),
    (PluginError, 409, Code.CONFLICT),
)


def fault_of(error: Exception) -> HttpFault:
    """Return the error response for an exception."""
    if isinstance(error, HttpFault):
        return error
    if isinstance(error, LimitExceededError):
        return TooManyFault(str(error), data=data_of(error))
    if isinstance(error, StoreUnavailableError):
        logger.warning("The database is unavailable: %s", error)
        what = f"The database cannot be used now: {error.reason}. Try again later; a requested run continues."
        return HttpFault(503, Code.INTERNAL, what, data_of(error), {"Retry-After": str(RETRY_AFTER)})
    if isinstance(error, StoreError):
        return _unforeseen(error, 503, "The database cannot do its work now.", data_of(error))
    if isinstance(error, ApflowError) and not isinstance(error, SettingsError):
        for kind, status, code in _FAULTS:
            if isinstance(error, kind):
                return HttpFault(status, code, str(error), data_of(error))
    return _unforeseen(error, 500, "Something failed that should not.", {})


def _unforeseen(error: Exception, status: int, what: str, data: Mapping[str, Json]) -> HttpFault:
    incident = secrets.token_hex(8)
    logger.error("Incident %s", incident, exc_info=error)
    message = f"{what} The log of the server says more, under {incident}."
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    return HttpFault(status, Code.INTERNAL, message, {**data, "incident": incident}, headers)
