"""The text log of a process that runs trees for others: time, level, logger, tree and task of each record."""

from __future__ import annotations

import logging
from datetime import datetime

from apflow.core.engine import active_runs
from apflow.core.process.printable import TextFormatter

SERVICE_FORMAT = "%(asctime)s %(levelname)s %(name)s%(apflow_ids)s: %(message)s"


class ServiceFormatter(TextFormatter):
    """Formats a record as one line with the local time and zone, and the IDs of its tree and task.

    The IDs are those that the record has as `root_task_id` and `task_id` (`extra` in calls of `logging`), or
    those of the task whose code logs the record. Without a task, there are no IDs.
    """

    def __init__(self) -> None:
        super().__init__(SERVICE_FORMAT)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        """Return the time with milliseconds and the offset from UTC, as in ISO 8601."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        record.apflow_ids = shown_ids(record)
        return super().formatMessage(record)


def shown_ids(record: logging.LogRecord) -> str:
    """Return ` [tree ID task ID]`; empty for a record of no task. A root has the ID of its tree."""
    root_id, task_id = ids_of(record)
    if root_id is None:
        return ""
    return f" [tree {root_id}]" if task_id in (None, root_id) else f" [tree {root_id} task {task_id}]"


def ids_of(record: logging.LogRecord) -> tuple[str | None, str | None]:
    """Return the IDs of the tree and the task of a record."""
    root_id, task_id = (getattr(record, name, None) for name in ("root_task_id", "task_id"))
    if isinstance(root_id, str):
        return root_id, task_id if isinstance(task_id, str) else None
    task = active_runs.current_task()
    return (None, None) if task is None else (task.root_id, task.id)
