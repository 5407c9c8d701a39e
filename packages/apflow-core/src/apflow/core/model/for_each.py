"""`for_each` of a task: one element of the tree for each item of a list, or for each batch of items.

The field is stored as `policy.for_each`. See `apflow.core.planning.fan_out` for what a run does with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Final

from apflow.core.model.task import Json, Task

MAX_ITEMS: Final = 10_000  # by default


@dataclass(frozen=True, slots=True)
class ForEach:
    """The parsed form of `policy.for_each`."""

    items: Json  # a list, or the reference to one
    batch: int | None = None  # items of an element, which is a list then; None: an element is one item
    max_items: int = MAX_ITEMS  # a longer list fails the task
    max_parallel: int | None = None  # elements in progress at once; None: any number
    allow_failures: float = 0  # below 1: a share of the elements, from 1 on: a number of elements
    collect: bool = True  # whether the result is the list of the results; otherwise it counts them
    tasks: tuple[Mapping[str, Json], ...] | None = None  # the tree of an element; None: the task itself

    @classmethod
    def of(cls, task: Task) -> ForEach | None:
        """Return the `for_each` of a task, which creation has checked; None if there is no such field."""
        stored = task.policy.get("for_each")
        if not stored:
            return None
        values: dict[str, Json] = dict(stored)
        if values.get("tasks") is not None:
            values["tasks"] = tuple(values["tasks"])
        return cls(**values)

    def allowed(self, elements: int) -> int:
        """Return how many of the elements may fail."""
        if isinstance(self.allow_failures, int):
            return self.allow_failures
        return floor(self.allow_failures * elements + 1e-9)  # 0.1 of 10 is 1


def has_for_each(task: Task) -> bool:
    """Return whether a task stands for the elements of a list."""
    return bool(task.policy.get("for_each"))


def element_key(key: str, index: int) -> str:
    """Return the key of an element of the task with a key."""
    return f"{key}[{index}]"


def is_element_key(key: str) -> bool:
    """Return whether a key has the form of those that `element_key` returns."""
    return key.endswith("]") and key[:-1].rpartition("[")[2].isdecimal()
