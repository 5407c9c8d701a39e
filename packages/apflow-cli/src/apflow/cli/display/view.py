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
    at: tuple[int, int] = (0, 0)  # its place in the order of display
    elements: Counter[str] | None = None  # of a task with `for_each`: the statuses of its elements

    @property
    def shown(self) -> str:
        """The note, or how many elements have ended."""
        if not self.elements or self.note:
            return self.note
        ended = sum(count for status, count in self.elements.items() if TaskStatus.is_terminal(status))
        failed = f", {self.elements['failed']:,} failed" if self.elements["failed"] else ""
        return f"{ended:,} of {self.elements.total():,} elements{failed}"


class View:
    """The tasks of a tree in the order of display, by id."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._fill(root)

    def _fill(self, root: Mapping[str, Json]) -> None:
        self.rows: dict[str, Row] = {}
        self.by_status: Counter[str] = Counter()
        self._notable: dict[str, Row] = {}  # those that run or failed, by id: a view is drawn many times
        self._lists: dict[str, Row] = {}  # the tasks with `for_each`, by the ids of their elements
        waiting: list[tuple[Mapping[str, Json], int, Row | None]] = [(root, 0, None)]
        while waiting:
            task, depth, parent = waiting.pop()
            note = one_line(task["error"])
            row = Row(label(task), depth, task["status"], task["progress"], note, (len(self.rows), 0))
            policy: Mapping[str, Json] = task.get("policy") or {}
            if policy.get("for_each"):
                row.elements = Counter()
            self._add(task["id"], row, parent)
            waiting.extend((child, depth + 1, row) for child in reversed(task["children"]))

    def _add(self, task_id: str, row: Row, parent: Row | None) -> None:
        self.rows[task_id] = row
        self.by_status[row.status] += 1
        if row.status in NOTABLE:
            self._notable[task_id] = row
        if parent is not None and parent.elements is not None:
            self._lists[task_id] = parent
            parent.elements[row.status] += 1

    def _create(self, event: Mapping[str, Json]) -> None:
        """Add a task that the run has created, below its parent."""
        parent = self.rows.get(event["data"]["parent_id"])
        if parent is None:
            return
        if parent.elements is None:
            parent.elements = Counter()
        name = label({"id": event["task_id"], "key": event["key"], "name": event["data"]["name"]})
        row = Row(name, parent.depth + 1, event["status"], 0.0, "", (parent.at[0], len(self.rows)))
        self._add(event["task_id"], row, parent)

    def apply(self, event: Mapping[str, Json]) -> None:
        """Take in one event. A snapshot replaces everything; events of the tree as a whole change no row."""
        if event["type"] == "snapshot":
            self._fill(event["data"])
            return
        row = self.rows.get(event["task_id"])
        if row is None and event["type"] == "task_created":
            self._create(event)
            return
        if row is None or str(event["type"]).startswith("tree_"):
            return
        if event["status"] is not None and event["status"] != row.status:
            holder = self._lists.get(event["task_id"])
            for counts in (self.by_status, None if holder is None else holder.elements):
                if counts is not None:
                    counts[row.status] -= 1
                    counts[event["status"]] += 1
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
            return sorted(self.rows.values(), key=lambda row: row.at)
        return nsmallest(height, self._notable.values(), key=lambda row: row.at)

    def counts(self) -> str:
        """Return how many tasks are in which state, as text."""
        shown = [
            f"{self.by_status[each]} {each.replace('_', ' ')}" for each in TaskStatus if self.by_status[each]
        ]
        return ", ".join(shown)
