"""What a live tree shows: the state of each task, kept up to date by events. No terminal in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nsmallest

from apflow.cli.display.output import label, one_line
from apflow.cli.display.tree_lines import NOTABLE
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json


@dataclass(slots=True)
class Row:
    """One task in the view."""

    name: str
    depth: int
    status: str
    progress: float
    note: str = ""  # the last message, or the error
    at: int = 0  # its place in the order of display


class View:
    """The tasks of a tree in the order of display, by id."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._fill(root)

    def _fill(self, root: Mapping[str, Json]) -> None:
        self.rows: dict[str, Row] = {}
        self.by_status: Counter[str] = Counter()
        self._notable: dict[str, Row] = {}  # those that run or failed, by id: a view is drawn many times
        waiting: list[tuple[Mapping[str, Json], int]] = [(root, 0)]
        while waiting:
            task, depth = waiting.pop()
            note = one_line(task["error"])
            row = Row(label(task), depth, task["status"], task["progress"], note, len(self.rows))
            self.rows[task["id"]] = row
            self.by_status[row.status] += 1
            if row.status in NOTABLE:
                self._notable[task["id"]] = row
            waiting.extend((child, depth + 1) for child in reversed(task["children"]))

    def apply(self, event: Mapping[str, Json]) -> None:
        """Take in one event. A snapshot replaces everything; events of the tree as a whole change no row."""
        if event["type"] == "snapshot":
            self._fill(event["data"])
            return
        row = self.rows.get(event["task_id"])
        if row is None or str(event["type"]).startswith("tree_"):
            return
        if event["status"] is not None and event["status"] != row.status:
            self.by_status[row.status] -= 1
            self.by_status[event["status"]] += 1
            row.status, row.note = event["status"], ""
            if row.status in NOTABLE:
                self._notable[event["task_id"]] = row
            else:
                self._notable.pop(event["task_id"], None)
        if event["progress"] is not None:
            row.progress = event["progress"]
        row.note = one_line(event["error"] or event["message"]) or row.note

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(count for status, count in self.by_status.items() if TaskStatus.is_terminal(status))

    @property
    def fraction(self) -> float:
        """How much of the tree is done, 0.0 to 1.0. What runs counts with its own progress."""
        running = (row.progress for row in self._notable.values() if TaskStatus.is_active(row.status))
        return (self.ended + sum(running)) / len(self.rows)

    def visible(self, height: int) -> list[Row]:
        """Return the rows for so many lines: all, or else those that run and those that failed, in order."""
        if len(self.rows) <= height:
            return list(self.rows.values())
        return nsmallest(height, self._notable.values(), key=lambda row: row.at)

    def counts(self) -> str:
        """Return how many tasks are in which state, as text."""
        shown = [
            f"{self.by_status[each]} {each.replace('_', ' ')}" for each in TaskStatus if self.by_status[each]
        ]
        return ", ".join(shown)
