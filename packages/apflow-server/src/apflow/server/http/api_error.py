"""Error responses: a JSON-RPC code, an HTTP status and a message.

`api_error_of` maps each error to its response. An error of the core is returned with its type and facts
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
    GenerationFailedError,
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

RETRY_AFTER = 5  # seconds, by default


class Code(IntEnum):
    """JSON-RPC error codes: those of the specification, and those of apflow."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    UNKNOWN_METHOD = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    NOT_FOUND = -32001
    FORBIDDEN = -32003
    CONFLICT = -32009
    LIMIT = -32010


class ApiError(Exception):
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
        """Return the error object of JSON-RPC."""
        error: dict[str, Json] = {"code": int(self.code), "message": self.message}
        return error if self.data is None else error | {"data": self.data}


class UnauthorizedError(ApiError):
    """The credentials do not identify a caller (RFC 6750, section 3)."""

    def __init__(self, problem: str = "") -> None:
        challenge = 'Bearer realm="apflow"'
        if problem:
            challenge += f', error="invalid_token", error_description="{problem}"'
        message = f"The token is refused: {problem}." if problem else "A bearer token is required."
        message += " Commands take it from APFLOW_API_TOKEN or from `apflow login URL`."
        super().__init__(401, Code.FORBIDDEN, message, headers={"WWW-Authenticate": challenge})


class RefusedError(ApiError):
    """The server does not serve this caller, or this kind of request."""

    def __init__(self, message: str) -> None:
        super().__init__(403, Code.FORBIDDEN, message)


class MalformedRequestError(ApiError):
    """The request violates its protocol."""

    def __init__(self, message: str, code: Code = Code.INVALID_REQUEST, status: int = 400) -> None:
        super().__init__(status, code, message)


class InvalidParametersError(ApiError):
    """The parameters are invalid."""

    def __init__(self, error: InvalidInputError) -> None:
        super().__init__(400, Code.INVALID_PARAMS, str(error), data_of(error))


class RequestTooLargeError(ApiError):
    """The request is larger than the server accepts."""

    def __init__(self, message: str) -> None:
        super().__init__(413, Code.LIMIT, message)


class TooManyRequestsError(ApiError):
    """The caller has exceeded a limit for the moment."""

    def __init__(self, message: str, retry_after: float = RETRY_AFTER, data: Json = None) -> None:
        seconds = max(1, round(retry_after))
        super().__init__(429, Code.LIMIT, message, data, {"Retry-After": str(seconds)})


class UnavailableError(ApiError):
    """A resource that the response needs is not available now."""

    def __init__(self, message: str, code: Code = Code.INTERNAL) -> None:
        super().__init__(503, code, message, headers={"Retry-After": str(RETRY_AFTER)})


class NotStartedError(UnavailableError):
    """The application answers requests, but its lifespan has not run."""

    def __init__(self) -> None:
        super().__init__(
            "apflow has not started: the lifespan of its application has not run, or has ended. An "
            "application that mounts `app = create_app()` must run it in its own lifespan: "
            "`async with app.router.lifespan_context(app): yield`. To have FastAPI run it, use "
            "`include_router(create_router())` instead. An ASGI server must run lifespans (uvicorn: "
            "--lifespan on)."
        )


# The first match counts. An invalid setting is an internal error: the caller cannot correct it.
_RESPONSES: tuple[tuple[type[Exception], int, Code], ...] = (
    (InvalidInputError, 422, Code.INVALID_PARAMS),
    (NotFoundError, 404, Code.NOT_FOUND),
    (ExecutorNotFoundError, 404, Code.NOT_FOUND),
    (ForbiddenError, 403, Code.FORBIDDEN),
    (ConflictError, 409, Code.CONFLICT),
    (PluginError, 409, Code.CONFLICT),
    (GenerationFailedError, 502, Code.INTERNAL),
)


def api_error_of(error: Exception) -> ApiError:
    """Return the error response for an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LimitExceededError):
        return TooManyRequestsError(str(error), data=data_of(error))
    if isinstance(error, StoreUnavailableError):
        logger.warning("The database is unavailable: %s", error)
        what = f"The database cannot be used now: {error.reason}. Try again later; a requested run continues."
        return ApiError(503, Code.INTERNAL, what, data_of(error), {"Retry-After": str(RETRY_AFTER)})
    if isinstance(error, StoreError):
        return _unexpected(error, 503, "The database is unavailable.", data_of(error))
    if isinstance(error, ApflowError) and not isinstance(error, SettingsError):
        for kind, status, code in _RESPONSES:
            if isinstance(error, kind):
                return ApiError(status, code, str(error), data_of(error))
    return _unexpected(error, 500, "Internal error.", {})


def _unexpected(error: Exception, status: int, what: str, data: Mapping[str, Json]) -> ApiError:
    incident = secrets.token_hex(8)
    logger.error("Incident %s", incident, exc_info=error)
    message = f"{what} See incident {incident} in the server log."
    headers = {"Retry-After": str(RETRY_AFTER)} if status == 503 else None
    return ApiError(status, Code.INTERNAL, message, {**data, "incident": incident}, headers)
