"""Rows about deleting old trees from a file while a server runs new ones, and about the size of the file.

`python -m benchmarks.purging 1000000` measures them with so many finished tasks.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx

from apflow.storage.duckdb.database import Database
from benchmarks import trees
from benchmarks.line import Line, table
from benchmarks.reopening import folder, store_ended_trees
from benchmarks.serving import ask, server

CLIENTS = 8
RUN = 99  # tasks below the root of each tree that the clients run
LIMIT = 20  # trees in one call


def purging(count: int, normal_seconds: float = 20.0) -> list[Line]:
    """Measure a server that deletes so many finished tasks while clients create and run trees.

    Args:
        normal_seconds: how long the normal throughput is measured before, after half of that time.
    """
    with folder() as path:
        file = path / "benchmark.duckdb"
        asyncio.run(store_ended_trees(file, count))
        _age(file)
        before = file.stat().st_size
        with server(file) as (url, _, _):
            during, normal, seconds, after = asyncio.run(_purge(url, normal_seconds))
    megabytes = 1 / (1 << 20)
    beside = f"while {count:,} finished tasks are deleted in {seconds:.0f} s"
    return [
        Line(
            "purge_beside",
            during,
            normal,
            "tasks/s",
            f"trees of {RUN + 1} tasks that {CLIENTS} clients run {beside}; floor: just before, of which 0.8 "
            "is asked for",
        ),
        Line(
            "purge_file",
            after * megabytes,
            before * megabytes,
            "MiB",
            "the file after it was vacuumed; floor: before the deletion",
        ),
    ]


def _age(file: Path) -> None:
    """Let all trees have ended 40 days ago."""
    times = ("created_at", "started_at", "updated_at", "completed_at", "run_requested_at", "run_ended_at")
    sets = ", ".join(f"{name} = {name} - INTERVAL 40 DAY" for name in times)
    database = Database(f"duckdb:///{file}", file, "2GB")
    with closing(database), database.cursor() as connection:
        connection.execute(f"UPDATE apflow_tasks SET {sets}")
        connection.execute("CHECKPOINT")


async def _purge(url: str, normal_seconds: float) -> tuple[float, float, float, int]:
    """Return the throughput during the deletion and before, its seconds, and the size after a vacuum."""
    array = trees.fan_out(RUN)
    done = 0
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

        async def run_trees() -> None:
            nonlocal done
            while True:
                await ask(client, "tasks.execute", tasks=array, wait=True)
                done += RUN + 1

        async with asyncio.TaskGroup() as group:
            clients = [
                group.create_task(run_trees(), name=f"benchmark:client-{number}") for number in range(CLIENTS)
            ]
            await asyncio.sleep(normal_seconds / 2)
            first, begin = done, time.perf_counter()
            await asyncio.sleep(normal_seconds)
            normal = (done - first) / (time.perf_counter() - begin)
            first, begin = done, time.perf_counter()
            while True:
                purged = await ask(client, "tasks.purge", older_than="30d", limit=LIMIT)
                if not purged["has_more"]:
                    break
            seconds = time.perf_counter() - begin
            during = (done - first) / seconds
            for each in clients:
                each.cancel()
        vacuumed = await ask(client, "system.vacuum")
        return during, normal, seconds, int(str(vacuumed["size_bytes_after"]))


if __name__ == "__main__":
    print(table(purging(int(sys.argv[1]))))
