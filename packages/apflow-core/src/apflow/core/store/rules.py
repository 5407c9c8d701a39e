"""What every store does alike: who loses with whom, which events creation stores, what may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from apflow.core.bounds import is_integer
from apflow.core.errors import InvalidInputError
from apflow.core.model.custom_columns import check_columns, check_extra
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import clean_text, dumps, encode
from apflow.core.store.base import Change

MAX_RECORD: Final = 1 << 20  # bytes of the JSON text of a record
MAX_KEY: Final = 1000  # bytes of a key, and of a kind: an index of PostgreSQL takes 2,704 for both
MAX_VERSION: Final = 2**63 - 1


def check_names(change: Change) -> None:
    """Raise `InvalidInputError` where a change names a field that tasks do not have."""
    for task in change.add:
        if task.extra:
            check_extra(task.extra)
    for move in change.moves:
        check_columns(move.sets)
        check_columns(move.expects)


def repeated(tasks: Sequence[Task]) -> list[str]:
    """Return the ids that stand more than once among these tasks."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for task in tasks:
        if task.id in seen:
            twice[task.id] = None
        seen.add(task.id)
    return list(twice)


def created_event(task: Task, timestamp: datetime) -> TaskEvent:
    """Return the event that is stored with an added task."""
    return TaskEvent(
        type=EventType.TASK_CREATED,
        task_id=task.id,
        key=task.key,
        root_task_id=task.root_id,
        timestamp=timestamp,
        status=task.status,
        progress=task.fraction,
        data={"name": task.name, "parent_id": task.parent_id},
    )


def check_record(kind: object, key: object, version: object = None) -> None:
    """Raise `InvalidInputError` unless there could be a record of that kind, key and version."""
    _check_text("kind", kind)
    _check_text("key", key)
    if version is not None and not is_integer(version, 0, MAX_VERSION):
        raise InvalidInputError(
            f"The version of a record must be a number that was read (0: it must not exist), not {version!r}."
        )


def check_records(kind: object, prefix: object, limit: object) -> None:
    """Raise `InvalidInputError` unless these could name some records."""
    _check_text("kind", kind)
    if prefix != "":
        _check_text("prefix of the key", prefix)
    if limit is not None and not is_integer(limit, 0, MAX_VERSION):
        raise InvalidInputError(f"The limit of records must be a number from 0 on, not {limit!r}.")


def record_text(value: object) -> tuple[Json, str]:
    """Return the value of a record as it is stored, a copy, and its JSON text.

    Raises:
        InvalidInputError: it is not JSON, or too large.
    """
    plain, size = encode(value, "value")
    if size > MAX_RECORD:
        raise InvalidInputError(
            f"The value of a record has {size:,} bytes of JSON; at most {MAX_RECORD:,} are possible. "
            "Split it, or keep what is large elsewhere and its place here."
        )
    return plain, dumps(plain).decode()


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text:
        kind = "empty text" if text == "" else type(text).__name__
        raise InvalidInputError(f"The {what} of a record must be text that is not empty, not {kind}.")
    if text != clean_text(text):
        raise InvalidInputError(
            f"The {what} of a record holds characters that cannot be stored (U+0000 or a lone surrogate)."
        )
    size = len(text.encode())
    if size > MAX_KEY:
        raise InvalidInputError(f"The {what} of a record has {size:,} bytes; at most {MAX_KEY} are possible.")
