"""One JSON-RPC call of an operation: build the request and read the answer. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from pydantic_core import PydanticSerializationError, to_json

from apflow.client.errors import ServerBusyError, ServerError, UnknownOperationError
from apflow.core.errors import (
    ApflowError,
    ConflictError,
    ExecutorNotFoundError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
)
from apflow.core.model.task import Json
from apflow.core.net.retry_after import read_retry_after
from apflow.core.service.error_json import error_from
from apflow.core.service.operations import OPERATIONS, Operation

SHOWN: Final = 200  # characters of an unreadable answer in an error

INVALID_PARAMS: Final = -32602
NOT_FOUND: Final = -32001
FORBIDDEN: Final = -32003
CONFLICT: Final = -32009
INTERNAL: Final = -32603


@dataclass(frozen=True)
class Call:
    """An operation with its parameters."""

    operation: Operation
    params: Mapping[str, Json]

    @property
    def is_repeatable(self) -> bool:
        """Whether the client may repeat the call without a second effect."""
        return self.operation.is_read_only or bool(self.params.get("idempotency_key"))

    def body(self) -> bytes:
        """Return the body of the request.

        Raises:
            InvalidInputError: a parameter cannot be converted to JSON.
        """
        request = {"jsonrpc": "2.0", "id": 1, "method": self.operation.name, "params": self.params}
        try:
            return to_json(request)
        except (PydanticSerializationError, UnicodeError) as error:
            raise InvalidInputError(
                f"Parameters of {self.operation.name} cannot be converted to JSON: {error}"
            ) from error


def call_of(name: str, params: Mapping[str, Json]) -> Call:
    """Return a call of an operation.

    Raises:
        UnknownOperationError: the operation does not exist.
        InvalidInputError: the operation yields events.
    """
    operation = OPERATIONS.get(name)
    if operation is None:
        near = difflib.get_close_matches(name, OPERATIONS, 1)
        raise UnknownOperationError(name, near[0] if near else "")
    if operation.is_stream:
        raise InvalidInputError(f"{name} yields events: use `watch` or `events`.")
    return Call(operation, params)


def without_defaults(name: str, given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the parameters that differ from their defaults."""
    fields = OPERATIONS[name].parameters.model_fields
    return {
        each: value
        for each, value in given.items()
        if fields[each].is_required() or value != fields[each].get_default()
    }


def read_answer(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> Json:
    """Return the result of a call.

    Raises:
        ApflowError: the error that the server returned: the core's class for it, or `ServerError`.
    """
    answer = _read_object(body)
    if status == 200 and "result" in answer:
        return answer["result"]
    raise error_of(status, headers, body, call.params)


def error_of(status: int, headers: Mapping[str, str], body: bytes, params: Mapping[str, Json]) -> ApflowError:
    """Return the error that an answer contains."""
    given = _read_object(body).get("error")
    retry_after = read_retry_after(headers.get("retry-after"), datetime.now(UTC))
    if not isinstance(given, dict) or not isinstance(cast("dict[str, Json]", given).get("message"), str):
        return _no_answer(status, body, retry_after)
    error = cast("dict[str, Json]", given)
    code, message, data = error.get("code"), error["message"], error.get("data")
    known = error_from(message, data)
    if status == 429:
        runs = known if isinstance(known, LimitExceededError) else LimitExceededError(0)
        return ServerBusyError(message, retry_after, runs.limit, runs.user_id)
    if status == 413:
        return InvalidInputError(message)
    if code != INTERNAL:
        known = known or _by_code(code, message, data, params)
        if known is not None:
            return known
    return ServerError(message, status, code if isinstance(code, int) else None, retry_after)


def _by_code(code: Json, message: str, data: Json, params: Mapping[str, Json]) -> ApflowError | None:
    """Return the error of a server that sends no type, or an unknown one."""
    if code == INVALID_PARAMS:
        return InvalidInputError(message, _violations(data))
    if code == NOT_FOUND:
        return _not_found(message, params)
    if code == FORBIDDEN:
        return ForbiddenError(message)
    return ConflictError(message) if code == CONFLICT else None


def _violations(data: Json) -> list[str]:
    given = cast("dict[str, Json]", data).get("violations") if isinstance(data, dict) else data
    return [str(each) for each in cast("list[Json]", given)] if isinstance(given, list) else []


def _not_found(message: str, params: Mapping[str, Json]) -> ApflowError:
    named = next((params[each] for each in ("executor_id", "task_id", "parent_id") if each in params), "")
    is_executor = "executor_id" in params
    error = ExecutorNotFoundError(str(named)) if is_executor else NotFoundError(str(named))
    error.args = (message,)
    return error


def _no_answer(status: int, body: bytes, retry_after: float | None) -> ServerError:
    text = " ".join(body[: SHOWN * 4].decode(errors="replace").split())
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    quoted = f" It answered: {shown}" if shown else ""
    return ServerError(
        f"The answer with status {status} is not that of a working apflow server.{quoted}",
        status,
        retry_after=retry_after,
    )


def _read_object(body: bytes) -> dict[str, Json]:
    try:
        read: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Json]", read) if isinstance(read, dict) else {}
