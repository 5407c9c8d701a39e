"""DBOS: one workflow whose steps are the tasks, on SQLite."""

from __future__ import annotations

import asyncio

from dbos import DBOS
from shapes import timed


@DBOS.step()
async def nothing() -> int:
    """Return a small result."""
    return 1


@DBOS.workflow()
async def tree(shape: str, size: int) -> int:
    """Call the steps: one after the other, or those of a fan at once."""
    if shape == "fan":
        return sum(await asyncio.gather(*(nothing() for _ in range(size)))) + await nothing()
    done = 0
    for _ in range(size):
        done += await nothing()
    return done


def run(shape: str, size: int) -> int:
    """Run the workflow."""
    return asyncio.run(tree(shape, size))


DBOS(config={"name": "peers", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"})
DBOS.launch()
timed("dbos", run)
DBOS.destroy()
