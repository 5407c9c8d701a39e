"""The audit log: who has done what to which tasks, and how that ended. It holds no values.

Logger `apflow.audit`, one line for each operation that changes something, and for each that was refused.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from starlette.requests import HTTPConnection

from apflow.core.model.task import Json
from apflow.core.service.operations import Operation
from apflow.core.service.task_service import TaskService
from apflow.server.http.api_error import ApiError, Code

logger = logging.getLogger("apflow.audit")

NAMES: Final = ("task_id", "task_ids", "parent_id")  # parameters that name tasks
SHOWN: Final = 10  # tasks of one line
REFUSALS: Final = frozenset({Code.FORBIDDEN, Code.NOT_FOUND})


@contextmanager
def of(
    request: HTTPConnection, service: TaskService, operation: Operation, arguments: Mapping[str, Any]
) -> Generator[None]:
    """Note how an operation ends that is called in this context."""
    outcome = "interrupted"
    try:
        yield
        outcome = "done"
    except ApiError as error:
        outcome = error.code.name.lower()
        if operation.is_read_only and error.code not in REFUSALS:
            outcome = "done"  # a question that could not be answered
        raise
    finally:
        if not operation.is_read_only or outcome != "done":
            note(request, service.user_id, operation.name, outcome, tasks_in(arguments))


def note(
    connection: HTTPConnection, user_id: str | None, operation: str, outcome: str, tasks: list[str]
) -> None:
    """Write one line."""
    facts: dict[str, Json] = {
        "user": user_id,
        "operation": operation,
        "outcome": outcome,
        "tasks": [task[:64] for task in tasks[:SHOWN]],
        "task_count": len(tasks),
        "client": connection.client.host if connection.client else None,
        "request_id": connection.scope.get("state", {}).get("request_id"),
    }
    logger.info(
        "user=%(user)r %(operation)s %(tasks)r: %(outcome)s (%(client)s, %(request_id)s)", facts, extra=facts
    )


def tasks_in(arguments: Mapping[str, Json]) -> list[str]:
    """Return the ids of tasks among parameters."""
    found: list[str] = []
    for name in NAMES:
        value = arguments.get(name)
        found += [value] if isinstance(value, str) else value or []
    return found
