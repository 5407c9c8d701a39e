"""What is known of a campaign that has ended: what was asked for, written down, and stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from apflow.testing.torture.history import Line
from apflow.testing.torture.trees import Array, needs_of

ENDS: Final = {"task_completed": "completed", "task_failed": "failed", "task_cancelled": "cancelled"}
CRASHES: Final = ("killed", "frozen", "server")
HELD_UP: Final = "held_up"  # a process, or its database, was too slow to renew leases
DISTURBANCES: Final = (*CRASHES, "drained", HELD_UP)
AROUND: Final = 15.0  # seconds: a disturbance explains what happens until so much later
RESTART: Final = 2.0  # seconds: of a machine with enough free processors


@dataclass
class Evidence:
    """What was asked for, what was written down, and what is stored at the end."""

    arrays: dict[str, Array]  # what was given to be submitted, by key
    history: list[Line]
    tasks: dict[str, dict[str, Any]]
    events: dict[str, list[dict[str, Any]]]  # by root
    lease: float  # seconds
    restart: float = RESTART  # seconds beyond the lease, within which work continues after a kill
    left: Sequence[str] = ()  # processes, connections, files that outlived their owners
    approvals: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # those stored at the end

    def lines(self, *kinds: str) -> list[Line]:
        """Return the lines of the history of these kinds, in order."""
        return [line for line in self.history if line["kind"] in kinds]

    @cached_property
    def acknowledged(self) -> dict[str, str]:
        """Roots by key."""
        return {line["key"]: line["root_id"] for line in self.lines("acknowledged")}

    @cached_property
    def ids(self) -> dict[str, str]:
        """The ids of acknowledged tasks by their names: a store may have given them others."""
        roots = set(self.acknowledged.values())
        return {
            task["name"]: task["id"]
            for task in self.tasks.values()
            if task["root_id"] in roots and not self._is_element(task)
        }

    @cached_property
    def elements(self) -> dict[str, list[str]]:
        """The ids of the elements of lists, by the id of the list."""
        found: dict[str, list[str]] = defaultdict(list)
        for task in self.tasks.values():
            if self._is_element(task):
                found[task["parent_id"]].append(task["id"])
        return found

    @cached_property
    def asked(self) -> dict[str, dict[str, Any]]:
        """The tasks of all acknowledged trees as they were asked for, by the ids that they have.

        The elements of a list are asked for as the list is, without its items.
        """
        found: dict[str, dict[str, Any]] = {}
        for key in self.acknowledged:
            for task in self.arrays[key]:
                needs = [need | {"id": self.ids.get(need["id"], need["id"])} for need in needs_of(task)]
                name: str = task["id"]
                task_id = self.ids.get(name, name)
                found[task_id] = task | {"dependencies": needs}
                element = {field: each for field, each in found[task_id].items() if field != "for_each"}
                found |= dict.fromkeys(self.elements.get(task_id, ()), element)
        return found

    def _is_element(self, task: dict[str, Any]) -> bool:
        parent: dict[str, Any] = self.tasks.get(task.get("parent_id") or "", {})
        return bool(parent.get("policy", {}).get("for_each"))

    @cached_property
    def starts(self) -> dict[str, list[Line]]:
        """Starts of bodies by task, in order."""
        return by_task(self.lines("started"))

    @cached_property
    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Stored events by task, in order."""
        return by_task([event for events in self.events.values() for event in events])

    def events_of(self, task_id: str, *types: str) -> list[dict[str, Any]]:
        """Return the stored events of a task of these types, in order."""
        return [event for event in self.stored.get(task_id, []) if event["type"] in types]

    def is_disturbed(self, pids: set[int], begin: float, end: float, *kinds: str) -> bool:
        """Return whether a disturbance of one of these processes, or of the server, explains the result.

        A process that was held up notices that late.
        """
        return any(
            begin - AROUND <= line["time"] <= end + (AROUND if line["kind"] == HELD_UP else 0)
            for line in self.lines(*kinds)
            if line.get("pid") in pids or line["kind"] == "server"
        )


def by_task(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return lines or events by their tasks, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        found[line["task_id"]].append(line)
    return found


def processes_of(evidence: Evidence, task: dict[str, Any]) -> set[int]:
    """Return the processes that had a task: by its bodies, and by who was its last owner."""
    pids = {line["life"] for line in evidence.starts.get(task["id"], [])}
    return pids | ({int(task["owner"].split(":")[-2])} if task["owner"] else set())
