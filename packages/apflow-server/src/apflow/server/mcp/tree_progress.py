"""How far a tree is, from its events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json

STEP: Final = 1e-6  # by which a notification exceeds the one before it where nothing has changed
MAX_MESSAGE: Final = 500  # characters


class TreeProgress:
    """The tasks of a tree, each with the fraction that is done."""

    def __init__(self) -> None:
        self._done: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._sent = -STEP
        self.latest = ""  # what was reported last

    @property
    def total(self) -> int:
        """The number of tasks."""
        return max(1, len(self._done))

    def take(self, event: Mapping[str, Json]) -> None:
        """Note what an event reports."""
        kind, task_id = event["type"], event["task_id"]
        if kind == "snapshot":
            self._take_tree(event["data"])
        elif kind == "progress":
            self._done[task_id] = float(event.get("progress") or 0.0)
        elif kind == "task_reset":
            self._done[task_id] = 0.0
        elif kind in ("task_created", "task_started"):
            self._done.setdefault(task_id, 0.0)
        elif TaskStatus.is_terminal(str(event.get("status"))) and kind.startswith("task_"):
            self._done[task_id] = 1.0
        self._describe(event)

    def next(self) -> tuple[float, float, str]:
        """Return what to send: the tasks that are done, always more than the last time, of how many, and why.

        `progress` reaches `total` only when every task has ended.
        """
        self._sent = max(self._sent + STEP, sum(self._done.values()))
        ended = sum(1 for each in self._done.values() if each >= 1.0)
        counted = f"{ended} of {self.total} tasks have ended"
        return self._sent, float(self.total), f"{counted}; {self.latest}" if self.latest else counted

    def _take_tree(self, root: Mapping[str, Json]) -> None:
        waiting = [root]
        while waiting:
            task = waiting.pop()
            is_over = TaskStatus.is_terminal(task["status"])
            self._done[task["id"]] = 1.0 if is_over else float(task["progress"] or 0.0)
            self._names[task["id"]] = task["name"]
            waiting += cast("list[Mapping[str, Json]]", task["children"])

    def _describe(self, event: Mapping[str, Json]) -> None:
        name = self._names.get(event["task_id"]) or event.get("key") or event["task_id"]
        match event["type"]:
            case "task_started":
                self.latest = f"{name} runs"
            case "progress" | "log" | "retrying" if event.get("message"):
                self.latest = f"{name}: {event['message']}"[:MAX_MESSAGE]
            case "task_completed" | "task_failed" | "task_cancelled" | "task_skipped":
                self.latest = f"{name}: {event.get('status')}"
            case _:
                pass
