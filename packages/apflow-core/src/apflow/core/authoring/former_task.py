"""Copying the trees of the system before apflow: from the rows of its table to tasks.

Only `import_rows` writes; the rest is pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apflow.core.authoring.field_validation import read_priority
from apflow.core.authoring.task_validation import read_dependencies, resolve_names
from apflow.core.authoring.violation import Violations
from apflow.core.errors import IdTakenError, InvalidInputError
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import clean_text, storable
from apflow.core.store.base import TaskStore

Row = Mapping[str, Any]

# Columns that become fields of a task; the rest is a custom column, or is left out.
_KNOWN = frozenset({
    "id", "parent_id", "root_id", "user_id", "name", "status", "priority", "dependencies", "inputs", "params",
    "schemas", "policy", "result", "error", "progress", "has_children", "created_at", "started_at",
    "updated_at", "completed_at", "original_task_id", "has_copy", "attempts",
})  # fmt: skip


@dataclass
class Imported:
    """The result of an import."""

    trees: int = 0
    tasks: int = 0
    skipped: list[str] = field(default_factory=list[str])  # roots whose ids are taken: imported before
    refused: dict[str, str] = field(default_factory=dict[str, str])  # root -> why
    ignored_columns: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Json]:
        """Return it as plain JSON."""
        return {
            "trees": self.trees, "tasks": self.tasks, "skipped": self.skipped, "refused": self.refused,
            "ignored_columns": self.ignored_columns,
        }  # fmt: skip


async def import_rows(db: TaskStore, rows: Sequence[Row]) -> Imported:
    """Copy trees into a store, each in one write. A tree whose ids are taken is skipped.

    What was running when the old system ended is pending in the copy. No run is requested.
    """
    found = Imported()
    known = {*_KNOWN, *custom_fields()}
    found.ignored_columns = sorted({name for row in rows[:1] for name in row} - known)
    for root_id, tree in split_rows(rows):
        try:
            tasks = read_tree(root_id, tree)
            await db.add(tasks)
        except IdTakenError:
            found.skipped.append(root_id)
        except InvalidInputError as error:
            found.refused[root_id] = str(error)
        else:
            found.trees += 1
            found.tasks += len(tasks)
    return found


def split_rows(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return rows by tree, roots first, in order of creation. A row whose parent is gone is a root."""
    ordered = sorted(rows, key=lambda row: (str(row.get("created_at") or ""), str(row.get("id"))))
    ids = {str(row.get("id")) for row in ordered}
    children: dict[str, list[Row]] = {}
    roots: list[Row] = []
    for row in ordered:
        parent = row.get("parent_id")
        if parent and str(parent) in ids:
            children.setdefault(str(parent), []).append(row)
        else:
            roots.append(row)
    trees = [(str(root.get("id")), _below(root, children)) for root in roots]
    circling = [row for left in children.values() for row in left]  # tasks that contain each other
    return trees + ([(str(circling[0].get("id")), circling)] if circling else [])


def _below(root: Row, children: dict[str, list[Row]]) -> list[Row]:
    found, waiting = [root], [root]
    while waiting:
        held = children.pop(str(waiting.pop().get("id")), [])
        found += held
        waiting += held
    return found


def read_tree(root_id: str, rows: Sequence[Row]) -> list[Task]:
    """Return the tasks of one tree.

    Raises:
        InvalidInputError: a row cannot be read; the message names it.
    """
    ids = {str(row.get("id")) for row in rows}
    tasks = [_read_task(row, root_id, at) for at, row in enumerate(rows)]
    if rows[0].get("parent_id") and str(rows[0]["parent_id"]) in ids:
        raise InvalidInputError(
            f"The tasks {', '.join(sorted(ids)[:5])} contain each other, and have no root."
        )
    tasks[0].parent_id = None
    holding = {task.parent_id for task in tasks}
    faults = Violations()
    for task, row in zip(tasks, rows, strict=True):
        task.has_children = task.id in holding
        needed = read_dependencies(_json(row, "dependencies", list) or [], f"task {task.id}", faults)
        resolve_names(needed, tasks, faults)
        task.dependencies = [
            {"id": each["id"], "required": each["required"]} for each in needed if each["id"]
        ]
    if faults.found:
        raise InvalidInputError(" ".join(faults.found), faults.found)
    return tasks


def _read_task(row: Row, root_id: str, position: int) -> Task:
    if not row.get("id"):
        raise InvalidInputError("A row has no id.")
    status = _status(row.get("status"))
    has_ended = TaskStatus.is_terminal(status)
    created = _time(row, "created_at") or datetime.now(UTC)
    return Task(
        id=str(row["id"]),
        name=clean_text(str(row.get("name") or row["id"])),
        root_id=root_id,
        parent_id=str(row["parent_id"]) if row.get("parent_id") else None,
        user_id=str(row["user_id"]) if row.get("user_id") else None,
        status=status,
        priority=_priority(row),
        inputs=_json(row, "inputs", dict) or {},
        params=_json(row, "params", dict) or {},
        schemas=_json(row, "schemas", dict) or {},
        policy=_json(row, "policy", dict) or {},
        result=_json(row, "result") if has_ended else None,
        error=clean_text(str(row["error"])) if has_ended and row.get("error") else None,
        progress=1.0 if status is TaskStatus.COMPLETED else _progress(row) if has_ended else 0.0,
        created_at=created,
        updated_at=_time(row, "updated_at") or created,
        started_at=_time(row, "started_at") if has_ended else None,
        completed_at=_time(row, "completed_at") if has_ended else None,
        original_task_id=str(row["original_task_id"]) if row.get("original_task_id") else None,
        has_copy=str(row.get("has_copy")).lower() in ("true", "t", "1"),
        position=position,
        extra={name: row[name] for name in custom_fields() if name in row},
    )


def _status(value: Any) -> TaskStatus:
    """Return the status of the copy: what had not ended is pending."""
    try:
        status = TaskStatus(str(value or "pending").lower())
    except ValueError:
        return TaskStatus.PENDING
    return status if TaskStatus.is_terminal(status) else TaskStatus.PENDING


def _priority(row: Row) -> int:
    faults = Violations()
    priority = read_priority(row.get("priority"), f"Task {row['id']}", faults)
    if faults.found:
        raise InvalidInputError(faults.found[0])
    return priority


def _progress(row: Row) -> float:
    try:
        return min(1.0, max(0.0, float(row.get("progress") or 0.0)))
    except ValueError:
        return 0.0


def _json(row: Row, name: str, kind: type[object] | None = None) -> Json:
    """Return a column of JSON, as an object or as its text.

    Raises:
        InvalidInputError: it is not JSON, or not of the kind.
    """
    value: Any = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            if kind is not None:
                raise InvalidInputError(f"Task {row['id']}: column {name} does not hold JSON.") from None
        except RecursionError:
            raise InvalidInputError(f"Task {row['id']}: column {name} is nested too deeply.") from None
    if isinstance(value, str) and kind is not None:  # text of JSON, inside a string of JSON
        return _json({**row, name: value}, name, kind)
    if value is not None and kind is not None and not isinstance(value, kind):
        raise InvalidInputError(f"Task {row['id']}: column {name} holds a {type(value).__name__}.")
    return storable(value, name)


def _time(row: Row, name: str) -> datetime | None:
    value: Any = row.get(name)
    if not value:
        return None
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(_iso(str(value)))
    except ValueError:
        return None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _iso(text: str) -> str:
    """Return a time as databases write it in the form that Python reads: `+00` becomes `+00:00`."""
    return f"{text}:00" if len(text) > 3 and text[-3] in "+-" else text
