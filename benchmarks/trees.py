"""The trees that are measured, as arrays, and the executor that does nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from itertools import pairwise

from apflow.core import BaseTask, executor_register
from apflow.core.model.task import Json

logger = logging.getLogger("benchmark")

NOTHING = "benchmark_nothing"
LOG = "benchmark_log"
SLEEP = "benchmark_sleep"
WHEN = "benchmark_when"
LARGE = "benchmark_large"
ITEMS = "benchmark_items"


def now() -> float:
    """Return the time by the clock that all processes of the machine share, in seconds."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@executor_register()
class Nothing(BaseTask):
    """Returns at once."""

    id = NOTHING
    name = "Nothing"
    description = "Does nothing, so that what remains is the engine"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        """Return a small result."""
        return {"done": True}


@executor_register()
class Log(BaseTask):
    """Logs some lines, half of them by `logging`."""

    id = LOG
    name = "Log"
    description = "Logs lines"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> dict[str, Json]:
        """Log the lines."""
        for at in range(inputs["lines"] // 2):
            self.log(f"A line of usual length that says how far the work is: {at}")
            logger.info("A record of usual length that says how far the work is: %d", at)
        return {"done": True}


@executor_register()
class Sleep(BaseTask):
    """Waits for a given number of seconds."""

    id = SLEEP
    name = "Sleep"
    description = "Waits on the event loop"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> dict[str, Json]:
        """Wait."""
        await asyncio.sleep(inputs["seconds"])
        return {"done": True}


@executor_register()
class When(BaseTask):
    """Returns the time of its call."""

    id = WHEN
    name = "When"
    description = "Returns the time"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        """Return the time at which this was called."""
        return {"at": now()}


@executor_register()
class Items(BaseTask):
    """Returns a list of a given length."""

    id = ITEMS
    name = "Items"
    description = "Returns a list"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> list[dict[str, Json]]:
        """Return `count` items."""
        return [{"number": number} for number in range(inputs["count"])]


@executor_register()
class Large(BaseTask):
    """Returns a string of a given size."""

    id = LARGE
    name = "Large"
    description = "Returns a large result"
    effect = "pure"

    async def execute(self, inputs: dict[str, Json]) -> dict[str, Json]:
        """Return a result of `size` bytes that does not compress well."""
        return {"text": random.Random(0).randbytes(inputs["size"] // 2).hex()}


def fan_out(
    count: int, executor: str = NOTHING, inputs: dict[str, Json] | None = None
) -> list[dict[str, Json]]:
    """Return `count` independent tasks below a root that aggregates the results of all."""
    leaves = [
        {
            "id": f"leaf-{n}",
            "name": f"leaf {n}",
            "parent_id": "root",
            "schemas": {"method": executor},
            "inputs": inputs or {},
        }
        for n in range(count)
    ]
    root = {
        "id": "root",
        "name": "root",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": [{"id": leaf["id"], "required": True} for leaf in leaves],
    }
    return [root, *leaves]


def for_each(count: int, executor: str = NOTHING) -> list[dict[str, Json]]:
    """Return a task that gives a list of `count` items, and one that creates an element for each of them."""
    return [
        {"id": "root", "name": "root"},
        {
            "id": "list",
            "name": "list",
            "parent_id": "root",
            "schemas": {"method": ITEMS},
            "inputs": {"count": count},
        },
        {
            "id": "each",
            "name": "each",
            "parent_id": "root",
            "dependencies": ["list"],
            "schemas": {"method": executor},
            "inputs": {"number": {"$item": "number"}},
            "for_each": {"items": {"$from": "list"}, "max_items": count},
        },
    ]


def listed(count: int, executor: str = NOTHING) -> list[dict[str, Json]]:
    """Return the tree that `for_each` makes, as an array: the same tasks, in a group."""
    group: dict[str, Json] = {"id": "each", "name": "each", "parent_id": "root", "dependencies": ["list"]}
    leaves: list[dict[str, Json]] = [
        {
            "id": f"each[{n}]",
            "name": "each",
            "parent_id": "each",
            "dependencies": ["each"],
            "schemas": {"method": executor},
            "inputs": {"number": n},
        }
        for n in range(count)
    ]
    return [*for_each(count)[:2], group, *leaves]


def group(count: int) -> list[dict[str, Json]]:
    """Return `count` independent tasks below a root that needs none of them."""
    root: dict[str, Json] = {"id": "root", "name": "root", "schemas": {"method": NOTHING}}
    leaves = fan_out(count)[1:]
    return [root, *leaves]


def chain(count: int) -> list[dict[str, Json]]:
    """Return `count` tasks of which each needs the one before it."""
    links: list[dict[str, Json]] = [
        {"id": f"link-{n}", "name": f"link {n}", "parent_id": "link-0", "schemas": {"method": NOTHING}}
        for n in range(count)
    ]
    del links[0]["parent_id"]
    for before, link in pairwise(links):
        link["dependencies"] = [{"id": before["id"], "required": True}]
    return links


def single() -> list[dict[str, Json]]:
    """Return a tree of one task."""
    return [{"name": "single", "schemas": {"method": NOTHING}}]
