"""Stored events: pages of the stream of one tree.

All events of a tree that one commit stores share one row, so that storing many costs as much as storing
one. A page is JSON: a list of events, each a list of `FIELDS`; the key is left out where it is the id. A long
page is compressed, to a tenth: a database may rewrite what it has many times, as DuckDB does at each
checkpoint, and holds it in memory then.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple, cast

from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads

FIELDS = (
    "sequence", "type", "task_id", "timestamp", "status", "progress", "message", "data", "result", "error",
    "key",
)  # fmt: skip
MAX_EVENTS = 1000  # of one page: a reader decodes whole pages
LONG = 4096  # bytes of a page that is compressed
PACKED = "z"  # before the base64 of zlib; no JSON begins with it


Fields = Sequence[Json]  # of one event, in the order of `FIELDS`; its own key is left out where it is the id


class Page(NamedTuple):
    """Consecutive events of one tree, as a row."""

    root_id: str
    first_sequence: int
    last_sequence: int
    body: str


def pages(root_id: str, events: Iterable[TaskEvent]) -> Iterator[Page]:
    """Put consecutive events of a tree, numbered already, on pages, one page at a time."""
    return pages_of(root_id, fields_of(events))


def fields_of(events: Iterable[TaskEvent]) -> Iterator[Fields]:
    """Give the fields of events as pages have them."""
    time, text = None, ""
    for event in events:
        if event.timestamp is not time:  # most events of a page have one time
            time, text = event.timestamp, event.timestamp.isoformat()
        yield _fields(event, text)


def pages_of(root_id: str, fields: Iterable[Fields]) -> Iterator[Page]:
    """Put consecutive events of a tree, given by their fields, on pages, one page at a time."""
    waiting = iter(fields)
    while taken := list(islice(waiting, MAX_EVENTS)):
        yield Page(root_id, cast("int", taken[0][0]), cast("int", taken[-1][0]), packed(dumps(taken)))


def read_page(root_id: str, body: str) -> Iterator[TaskEvent]:
    """Give the events of a page."""
    for fields in loads(unpacked(body)):
        yield _event(root_id, fields)


def packed(body: bytes) -> str:
    """Return JSON as it is stored: a long one is compressed."""
    if len(body) < LONG:
        return body.decode()
    return PACKED + b64encode(zlib.compress(body, level=1)).decode()


def unpacked(body: str) -> str | bytes:
    """Return the JSON of a string that `packed` returned."""
    return zlib.decompress(b64decode(body[1:])) if body.startswith(PACKED) else body


def _fields(event: TaskEvent, time: str) -> tuple[Json, ...]:
    fields = (
        event.sequence,
        event.type,
        event.task_id,
        time,
        event.status,
        event.progress,
        event.message,
        event.data,
        event.result,
        event.error,
    )
    return fields if event.key == event.task_id else (*fields, event.key)


def _event(root_id: str, fields: Sequence[Json]) -> TaskEvent:
    sequence, kind, task_id, timestamp, status, progress, message, data, result, error, *key = fields
    return TaskEvent(
        type=EventType(kind),
        task_id=task_id,
        root_task_id=root_id,
        timestamp=datetime.fromisoformat(timestamp),
        status=None if status is None else TaskStatus(status),
        progress=progress,
        message=message,
        data=data,
        result=result,
        error=error,
        sequence=sequence,
        key=key[0] if key else task_id,
    )
