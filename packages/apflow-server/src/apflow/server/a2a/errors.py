"""Errors of apflow as errors of A2A, for all transports.

An unexpected error is logged under an incident ID, and the client gets only that ID.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final, cast

from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    InvalidRequestError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError, Code, api_error_of

ERRORS: Final[dict[Code, type[A2AError]]] = {
    Code.UNKNOWN_METHOD: InvalidParamsError,
    Code.INVALID_PARAMS: InvalidParamsError,
    Code.NOT_FOUND: TaskNotFoundError,
    Code.FORBIDDEN: InvalidRequestError,
    Code.INVALID_REQUEST: InvalidRequestError,
    Code.PARSE: InvalidRequestError,
    Code.CONFLICT: UnsupportedOperationError,
    Code.LIMIT: UnsupportedOperationError,
    Code.INTERNAL: InternalError,
}


def a2a_error_of(error: Exception) -> A2AError:
    """Return the A2A error for an exception."""
    if isinstance(error, A2AError):
        return error
    refused = api_error_of(error)
    cause = error if isinstance(error, InvalidInputError) else error.__cause__
    violations = cause.violations if isinstance(cause, InvalidInputError) else []
    kind = ERRORS[refused.code]
    data = {"errors": list(_fields(violations))} if kind is InvalidParamsError and violations else None
    return kind(_message(refused, violations), data)


@contextmanager
def as_a2a_errors() -> Generator[None]:
    """Convert the errors that are raised in this context.

    Raises:
        A2AError: instead of any other error.
    """
    try:
        yield
    except Exception as error:
        converted = a2a_error_of(error)
        if converted is error:
            raise
        raise converted from error


def _message(error: ApiError, violations: list[str]) -> str:
    given: Json = error.data
    incident = cast("dict[str, Json]", given).get("incident") if isinstance(given, dict) else None
    if incident and str(incident) not in error.message:
        return f"{error.message} (incident {incident})"
    return " ".join([error.message, *violations[:3]])


def _fields(violations: list[str]) -> Iterator[dict[str, str]]:
    for each in violations:
        place, colon, said = each.partition(": ")
        yield {"field": place if colon else "message", "message": said if colon else each}
