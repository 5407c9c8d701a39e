"""What is said at the Unix socket of a process that holds a database: JSON-RPC 2.0, one message per line.

The holder greets. The client sends one request. Before the holder acts on it, it sends a notification that
it accepts the request: without the notification, the client knows that nothing was done. The result or an
error follows. Events of `tasks.watch` precede the result, as notifications. One connection serves one
request; closing it ends a watch.

Both processes belong to one user, so errors contain complete messages.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from apflow.core.engine.worker import has_worker
from apflow.core.errors import ApflowError, ForbiddenError, InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.error_json import data_of
from apflow.core.service.operations import OPERATIONS, Operation, unknown_operation
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore

logger = logging.getLogger(__name__)

VERSION: Final = "2.0"
FOLLOW_LOGS: Final = "tasks.logs.follow"  # streams `tasks.logs` until the run has ended
BACKUP: Final = "system.backup"  # copies the database to `params.path`, a file of this machine
PAGE: Final = "system.page"  # returns the address of the page of the holder, or null; see `TaskStore`
ACCEPTED: Final = b'{"jsonrpc": "2.0", "method": "accepted"}\n'
EVENT: Final = "event"  # the method of a notification with an event
UNKNOWN_METHOD: Final = -32601
FAILED: Final = -32000  # an error of apflow, in `data`
INTERNAL: Final = -32603
HELD: Final = -32012  # not done for other processes; `data.seconds` is how long the database has been open
MAX_LINE_BYTES: Final = 1 << 30  # of one message: the largest trees fit


@dataclass(frozen=True)
class LocalRequest:
    """A request at the socket."""

    id: Json
    method: str
    params: Mapping[str, Json]

    @property
    def operation(self) -> Operation | None:
        """The operation that is called; None if there is none of this name."""
        return OPERATIONS.get("tasks.logs" if self.method == FOLLOW_LOGS else self.method)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the operation is cancelled when the client disconnects: it only reads."""
        return self.operation is None or self.operation.is_read_only


def read_request(line: bytes) -> LocalRequest:
    """Read a request.

    Raises:
        ValueError: the line is not a request.
    """
    given: Any = json.loads(line)
    if not isinstance(given, dict) or cast("dict[str, Json]", given).get("jsonrpc") != VERSION:
        raise ValueError("not a JSON-RPC 2.0 request")
    request = cast("dict[str, Json]", given)
    method, params = request.get("method"), request.get("params", {})
    if not isinstance(method, str) or not isinstance(params, dict):
        raise ValueError("not a JSON-RPC 2.0 request with named parameters")  # noqa: TRY004
    return LocalRequest(request.get("id"), method, cast("dict[str, Json]", params))


async def respond(
    db: TaskStore, request: LocalRequest, opened_at: float
) -> AsyncGenerator[dict[str, Json], None]:
    """Yield the messages that answer a request: events, then the result or an error.

    Args:
        opened_at: when the database was opened, by the monotonic clock.
    """
    try:
        async with aclosing(_results(db, request, opened_at)) as results:
            async for each in results:
                yield each
    except ApflowError as error:
        yield _failed(request, FAILED, str(error), data_of(error))
    except Exception as error:  # the border: the process continues
        logger.exception("%s, requested at the local socket, failed", request.method)
        yield _failed(request, INTERNAL, f"Internal error: {type(error).__name__}: {error}")


async def _results(
    db: TaskStore, request: LocalRequest, opened_at: float
) -> AsyncGenerator[dict[str, Json], None]:
    operation = request.operation
    if operation is None and request.method not in (BACKUP, PAGE):
        yield _failed(request, UNKNOWN_METHOD, unknown_operation(request.method))
        return
    if db.needs_token:
        raise ForbiddenError(
            "The server that holds the database requires tokens: set APFLOW_API_TOKEN, and name the server "
            "(--server URL)."
        )
    if request.method == PAGE:
        yield _answered(request, db.page_address() if db.page_address is not None else None)
        return
    if operation is None:
        await TaskService(db).backup(_path_in(request))
        yield _answered(request, None)
        return
    is_served = has_worker(db)
    if not (is_served or operation.is_read_only or operation.by_any_holder):
        seconds: dict[str, Json] = {"seconds": time.monotonic() - opened_at}
        yield _failed(request, HELD, f"{request.method} is not done for other processes.", seconds)
        return
    service = TaskService(db, is_served=is_served)
    if operation.is_stream or request.method == FOLLOW_LOGS:
        stream = (
            operation.stream(service, request.params)
            if operation.is_stream
            else service.follow_logs(**operation.read(request.params))
        )
        async with aclosing(stream) as events:
            async for event in events:
                yield {"jsonrpc": VERSION, "method": EVENT, "params": event}
        yield _answered(request, None)
    else:
        yield _answered(request, await operation.call(service, request.params))


def _path_in(request: LocalRequest) -> Path:
    path = request.params.get("path")
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise InvalidInputError(f"`path` of {request.method} must be an absolute path.")
    return Path(path)


def _answered(request: LocalRequest, result: Json) -> dict[str, Json]:
    return {"jsonrpc": VERSION, "id": request.id, "result": result}


def _failed(request: LocalRequest, code: int, message: str, data: Json = None) -> dict[str, Json]:
    error: dict[str, Json] = {"code": code, "message": message}
    return {"jsonrpc": VERSION, "id": request.id, "error": error | ({"data": data} if data else {})}
