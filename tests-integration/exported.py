"""Databases with rows of every kind, and what a reader finds in them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Column, DateTime, Float, Integer, String

from apflow.core.errors import ApflowError
from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.model.event import EventType
from apflow.core.model.log import LogChunk, LogEntry, LogQuery
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.model.usage import UsageEntry, UsageQuery, UsageTotals
from apflow.core.store.base import Change, TaskQuery, TaskStore, Transition
from apflow.core.store.transfer import ExportReader, ExportWriter
from apflow.storage.sql import TaskModel
from apflow.testing.building import a_task, an_event

TEXTS = ("plain", "ünï ☃ \U0001f600", "line\nbreak\ttab", '~1 "quoted" \\u0000', "", "~7")


class ProjectTask(TaskModel):
    """Tasks with columns of each type."""

    __tablename__ = "apflow_tasks"
    project = Column(String(255))
    weight = Column(Float)
    seen = Column(Integer, default=3)
    is_urgent = Column(Boolean, default=False)
    due_at = Column(DateTime)
    labels = Column(JSON)


def trees(count: int, large: int = 100_000) -> list[Task]:
    """Return trees with values of every kind, a few of them large."""
    tasks: list[Task] = []
    for n in range(count):
        root_id = f"r{n}"
        text = TEXTS[n % len(TEXTS)]
        size = large if n % 7 == 0 else 10
        tasks.append(a_task(root_id, user_id=f"u{n % 3}", key=f"key {n}", has_children=True))
        tasks.append(
            a_task(
                f"a{n}",
                root_id,
                name=f"{text} a",
                inputs={"text": text, "n": n, "large": "x" * size, "float": 0.1 * n, "big": 2**63 + n},
                params={"executor_id": "none", "nested": [{"deep": [None, True, text]}]},
                schemas={"method": "none"},
                priority=n % 5,
                error=text or None,
                not_before=datetime(2030, 1, 1, microsecond=n, tzinfo=UTC) if n % 2 else None,
            )
        )
        tasks.append(a_task(f"b{n}", root_id, dependencies=[{"id": f"a{n}", "required": True}]))
    return tasks


async def fill(db: TaskStore, count: int = 40, large: int = 100_000, **extra: Any) -> None:
    """Write trees with events, attempts, logs, records and usage."""
    tasks = trees(count, large)
    for each in tasks:
        each.extra.update(extra)
    await db.add(tasks)
    for n in range(count):
        await db.write(Change(moves=[_started(n), _waiting(n)]))
        await db.write(Change(moves=[_ended(n, large if n % 5 == 0 else 10)]))
        await db.add_logs(_logs(n))
    totals = UsageTotals(calls=2, input_tokens=5, output_tokens=7, cost_usd=0.25, seconds=1.5)
    await db.add_usage(
        [UsageEntry(task_id="a0", root_id="r0", top_id="r0", user_id="u", model="a/model", totals=totals)]
    )
    await db.put_record("webhook", "w1", {"url": "http://127.0.0.1/ü", "secret": "s"})
    await db.put_record("webhook", "w2", None)
    await db.put_record("webhook", "w1", {"url": "changed"})


def _started(n: int) -> Transition:
    event = an_event(f"a{n}", f"r{n}", status=TaskStatus("in_progress"), key="key a")
    return Transition(
        f"a{n}",
        f"r{n}",
        {"status": TaskStatus("pending")},
        {"status": TaskStatus("in_progress"), "attempts": 1},
        (event,),
    )


def _waiting(n: int) -> Transition:
    return Transition(f"r{n}", f"r{n}", {}, {"run_requested_at": datetime(2026, 1, 1, tzinfo=UTC)})


def _ended(n: int, size: int) -> Transition:
    result = {"out": "y" * size, "n": n}
    event = an_event(
        f"a{n}", f"r{n}", EventType.TASK_COMPLETED, status=TaskStatus("completed"), result=result
    )
    attempt = TaskAttempt(
        task_id=f"a{n}",
        number=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        ended_at=datetime(2026, 1, 1, 0, 0, 1, 5, tzinfo=UTC),
        outcome=AttemptOutcome.FAILED,
        error=TEXTS[n % len(TEXTS)],
        error_type="ValueError",
        traceback="Traceback\n" * 10,
    )
    sets = {"status": TaskStatus("completed"), "result": result, "progress": 1.0}
    return Transition(f"a{n}", f"r{n}", {"status": TaskStatus("in_progress")}, sets, (event,), (attempt,))


def _logs(n: int) -> list[LogChunk]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    entries = [
        LogEntry(at, 20, "stdout", TEXTS[n % len(TEXTS)]),
        LogEntry(at.replace(microsecond=7), 40, "logging", "x" * 9000, "a.logger"),
    ]
    chunk = LogChunk(root_task_id=f"r{n}", task_id=f"a{n}", attempt=1, generation=0, entries=entries)
    return [chunk, replace(chunk, task_id=f"b{n}", entries=entries[:1])]


async def everything(db: TaskStore) -> dict[str, Any]:
    """Return what the interface of stores gives of a database, without what depends on the store."""
    roots = await db.find(TaskQuery(root_only=True))
    found: dict[str, Any] = {}
    for root in roots:
        tasks = await db.tree(root.id)
        logs = await db.logs(LogQuery(root_task_id=root.id))
        found[root.id] = {
            "tasks": [asdict(each) for each in tasks],
            "events": await db.events(root.id),
            "attempts": [await db.attempts(each.id) for each in tasks],
            "logs": [(each.task_id, each.attempt, each.generation, each.entry) for each in logs],
        }
    found["records"] = await db.records("webhook")
    found["usage"] = await db.usage(UsageQuery(group_by=("task_id", "model")))
    return found


async def exported(db: TaskStore) -> bytes:
    """Return an export of a database."""
    file = io.BytesIO()
    writer = ExportWriter(file, "0")
    await db.export_to(writer)
    writer.end()
    return file.getvalue()


async def imported(db: TaskStore, export: bytes) -> ExportReader:
    """Import an export, and return its reader."""
    reader = ExportReader(io.BytesIO(export), "export.jsonl")
    await db.import_from(reader)
    return reader


def rows_of(export: bytes) -> list[bytes]:
    """Return the lines of an export but the header, which has the time."""
    return export.splitlines()[1:]


def without(export: bytes, *types: str) -> Iterable[bytes]:
    """Return the lines of an export that are not of these types."""
    return [
        line
        for line in export.splitlines(keepends=True)
        if not line.startswith(tuple(f'{{"type":"{each}"'.encode() for each in types))
    ]


async def refused(db: TaskStore, export: bytes) -> ApflowError:
    """Import an export that must be refused, and return the error."""
    before = await everything(db)
    try:
        await imported(db, export)
    except ApflowError as error:
        assert await everything(db) == before
        await asyncio.sleep(0)
        return error
    raise AssertionError("it was imported")
