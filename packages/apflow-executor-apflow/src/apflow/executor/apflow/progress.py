"""How far a tree on another server is, by its events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apflow.core.model.event import LIVE
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json

Event = Mapping[str, Json]


class TreeProgress:
    """The progress of each task of a tree; what has ended counts as done."""

    def __init__(self) -> None:
        self._by_task: dict[str, float] = {}
        self._sum = 0.0

    @property
    def fraction(self) -> float:
        """How far the tree is, from 0.0 to 1.0."""
        return min(1.0, max(0.0, self._sum / len(self._by_task))) if self._by_task else 0.0

    def apply(self, event: Event) -> None:
        """Apply an event. Of the events of the whole tree, only a snapshot has an effect."""
        if event["type"] == "snapshot":
            self._by_task, self._sum = {}, 0.0
            waiting: list[dict[str, Any]] = [event["data"]]
            while waiting:
                task = waiting.pop()
                self._set(task["id"], task["status"], task["progress"])
                waiting.extend(task["children"])
        elif not str(event["type"]).startswith("tree_"):
            self._set(event["task_id"], event["status"], event["progress"])

    def _set(self, task_id: str, status: str | None, progress: float | None) -> None:
        before = self._by_task.get(task_id, 0.0)
        is_reset = status == TaskStatus.PENDING
        now = 1.0 if status and TaskStatus.is_terminal(status) else 0.0 if is_reset else progress or before
        self._by_task[task_id] = now
        self._sum += now - before


def progress_of(event: Event) -> tuple[str, dict[str, Json]]:
    """Return an event of the remote tree as the message and the data of a local event."""
    shown = {name: event.get(name) for name in ("type", "task_id", "status", "progress", "error")}
    if event["type"] in LIVE:
        shown["data"] = event.get("data")
    message = event.get("message") or f"{event['task_id']}: {str(event['type']).replace('_', ' ')}"
    return message, shown
