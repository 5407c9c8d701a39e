"""A process that changes tasks, prints what is acknowledged, and is killed at a named point.

    python journal_story.py FILE ROUNDS POINT FAULT SECONDS

POINT is `module:Class.function:when:number`: the process is killed before or after that call. FAULT is the
name of a planted fault, or empty. SECONDS is how long a record waits for others before it is applied.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from itertools import pairwise
from typing import Any

from apflow.core.store.base import Change
from apflow.storage.duckdb import DuckDBStore, application, recovery, writer
from apflow.storage.duckdb.journal import Journal
from apflow.testing.building import a_move, a_tree

TREES = 6  # that change at the same time
STEPS = ("pending", "in_progress", "completed")


def kill_at(point: str) -> None:
    """Replace a function by one that kills the process at a call of it."""
    place, when, number = point.rsplit(":", 2)
    module, name = place.split(":")
    owner: Any = import_module(module)
    *parents, last = name.split(".")
    for each in parents:
        owner = getattr(owner, each)
    original, left = getattr(owner, last), [int(number)]

    @wraps(original)
    def killing(*args: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(*args, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, last, killing)


def acknowledge_before_the_append() -> None:
    """The journal says that it has a record, and stores it when three more have come."""
    append, late = Journal.append, list[bytes]()

    def appending(self: Journal, body: bytes) -> int:
        late.append(body)
        if len(late) > 3:
            append(self, late.pop(0))
        return self.last + len(late)

    Journal.append = appending  # type: ignore[method-assign]


def skip_a_record() -> None:
    """The fifth record is not applied when the database is opened."""
    after = Journal.after

    def skipping(self: Journal, number: int) -> Any:
        for found, body in after(self, number):
            yield found, body if found != 5 else _nothing(body)

    Journal.after = skipping  # type: ignore[method-assign]


def _nothing(body: bytes) -> bytes:
    import orjson

    record = orjson.loads(body)
    empty = {name: type(value)() for name, value in record.items() if name != "now"}
    return orjson.dumps({**empty, "now": record["now"]})


def apply_twice() -> None:
    """The database does not know which records it has."""
    recovery.NOTE_APPLIED = "SELECT $1"  # type: ignore[misc]


def delete_before_the_application() -> None:
    """The journal deletes records that are not applied yet."""
    append = Journal.append

    def appending(self: Journal, body: bytes) -> int:
        self.applied = self.last
        return append(self, body)

    Journal.append = appending  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (acknowledge_before_the_append, skip_a_record, apply_twice, delete_before_the_application)
}


def say(root: str, state: str) -> None:
    """Print what is acknowledged, in one write, so that a kill divides no line."""
    os.write(1, f"{root} {state}\n".encode())


async def change(store: DuckDBStore, number: int, rounds: int) -> None:
    """Add trees, take their tasks through their states, and remove some."""
    for at in range(rounds):
        root = f"r{number}-{at}"
        await store.add(a_tree(root, f"{root}-a", f"{root}-b"))
        say(root, "pending")
        for before, after in pairwise(STEPS):
            [moved] = await store.move(
                [a_move(f"{root}-a", before, after, root_id=root, sets={"result": [at]})]
            )
            assert moved is not None
            say(root, after)
        if at % 3 == 2:
            await store.write(Change(remove=[root, f"{root}-a", f"{root}-b"]))
            say(root, "removed")


async def main(file: str, rounds: int) -> None:
    async with DuckDBStore(f"duckdb:///{file}") as store:
        await asyncio.gather(*(change(store, number, rounds) for number in range(TREES)))
        if not rounds:
            await store.get(["nothing"])  # opens the database


if __name__ == "__main__":
    _, file_, rounds_, point_, fault_, seconds = sys.argv
    writer.COMMITS_BEFORE_JOURNAL = 0  # type: ignore[misc]
    application.GATHER_SECONDS = float(seconds)  # type: ignore[misc]
    recovery.MAX_ROWS = 10  # type: ignore[misc]
    if fault_:
        FAULTS[fault_]()
    if point_:
        kill_at(point_)
    asyncio.run(main(file_, int(rounds_)))
