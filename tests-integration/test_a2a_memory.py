"""What A2A streams leave behind in memory, on a DuckDB file: nothing of them, and little of their trees."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from a2a_clients import COMPLETED, agent, last_state, replies, tree
from serving import Served, serving
from trees import Steps, steps
from trees import tree as array_of

from apflow.core.settings import Settings
from apflow.storage.duckdb import DuckDBStore

CLIENTS, SIZE = 20, 4
ROUNDS = 3
MAX_BLOCKS = 120  # of memory for one tree that has ended; a stream that is left has more than 1000
PACKAGES = ("apflow.server", "apflow.core.events", "apflow.core.engine", "a2a", "sse_starlette", "starlette")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    store = DuckDBStore(f"duckdb:///{tmp_path}/t.duckdb")
    with steps(), serving(Settings(rate_limit=1_000_000), store) as found:
        Steps.go_on.set()
        yield found


async def test_streams_leave_nothing_behind(served: Served):
    figures: list[tuple[int, Counter[str]]] = []
    for at in range(ROUNDS):
        await stream_all(served, f"{at}")
        figures.append(held())
    (before, kinds), (after, others) = figures[-2:]
    assert (after - before) / CLIENTS < MAX_BLOCKS, others - kinds
    assert not {kind: count for kind, count in (others - kinds).items() if count >= CLIENTS}


async def stream_all(served: Served, name: str) -> None:
    async with agent(served.url) as client, asyncio.timeout(400):

        async def one(number: int) -> int | None:
            return last_state(await replies(client.send_message(tree(*array_of(f"{name}.{number}", SIZE)))))

        assert set(await asyncio.gather(*map(one, range(CLIENTS)))) == {COMPLETED}
        while served.app.state.streams.open["a2a"]:  # noqa: ASYNC110 - in another thread
            await asyncio.sleep(0.02)


def held() -> tuple[int, Counter[str]]:
    """Return how many blocks of memory are allocated, and how many objects of which type."""
    for _ in range(2):
        gc.collect()
    types = (type(each) for each in gc.get_objects())
    kinds = Counter(f"{each.__module__}.{each.__qualname__}" for each in types)
    return sys.getallocatedblocks(), Counter({k: n for k, n in kinds.items() if k.startswith(PACKAGES)})
