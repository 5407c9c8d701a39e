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
