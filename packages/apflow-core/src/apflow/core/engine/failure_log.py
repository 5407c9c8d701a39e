"""Logs what failed: one line at WARNING for each task that failed by itself, and for each tree that failed.

Tasks that fail because another task failed are not logged: the line of that task, and the line of the tree,
explain them. The root has the line of its tree only.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final, cast

from apflow.core.engine import active_runs
from apflow.core.events.bus import bus_of
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.tree import DERIVED_ERRORS
from apflow.core.store.base import TaskStore

logger = logging.getLogger("apflow.runs")

MAX_ERROR_LENGTH: Final = 500  # characters of an error in a line


@contextmanager
def logging_failures(store: TaskStore) -> Generator[None]:
    """Log what fails in trees that this process runs, as long as the context lasts."""
    with bus_of(store).observing(partial(_log_failures, store), needs_live=False):
        yield


def _log_failures(store: TaskStore, events: tuple[TaskEvent, ...]) -> None:
    """Log the failures among events. Called in the run's thread for each change, so it must be fast."""
    for event in events:
        if event.type is EventType.TREE_FAILED or (event.type is EventType.TASK_FAILED and _is_cause(event)):
            _log(store, event)


def _is_cause(event: TaskEvent) -> bool:
    """Return whether a task failed by itself. The root of a tree has the line of the tree."""
    return event.task_id != event.root_task_id and _error_type(event) not in DERIVED_ERRORS


def _log(store: TaskStore, event: TaskEvent) -> None:
    run = active_runs.run_of(store, event.root_task_id)
    if run is None:
        return  # another process runs the tree, and logs it
    task = run.by_id.get(event.task_id)
    what = "Tree" if event.type is EventType.TREE_FAILED else "Task"
    facts = {"task_id": event.task_id, "root_task_id": event.root_task_id, "error_type": _error_type(event)}
    name = task.name if task is not None else event.key
    logger.warning("%s %r failed: %s", what, name, _shortened(event.error or "no error given"), extra=facts)


def _shortened(error: str) -> str:
    return error if len(error) <= MAX_ERROR_LENGTH else f"{error[:MAX_ERROR_LENGTH]}..."


def _error_type(event: TaskEvent) -> str | None:
    result = cast("object", event.result)
    found = cast("dict[str, object]", result).get("error_type") if isinstance(result, dict) else None
    return found if isinstance(found, str) else None
