"""What one PostgreSQL carries, and what many workers would need of it.

    python -m benchmarks.capacity

measures what trees cost on a new server of this machine, compares a simulation with these costs to what was
measured, and simulates many workers. It prints the tables of `docs/explanation/capacity.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

import asyncpg
import psutil

from apflow.core import TaskCreator, TaskExecutor, submit
from apflow.core.engine.worker_report import INTERVAL_SECONDS
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import TaskStore
from benchmarks import trees
from benchmarks.line import number
from benchmarks.several import fresh_database, fresh_server, until_ended, workers
from benchmarks.simulation import Costs, Load, simulate

FEW, MANY = 4, 12  # workers
SETTLE_SECONDS: Final = INTERVAL_SECONDS + 3.0  # until workers have started, and know of each other
HOUR: Final = 3600
ENOUGH: Final = 0.9  # of the tasks that are submitted: with less, what waits grows without limit
SCALES: Final = (1, 2, 4, 8, 16)  # times a million tasks an hour

COUNTERS = """SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8,
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables)::float8,
    (SELECT sum(n_live_tup) FROM pg_stat_user_tables)::float8"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What some work has used."""

    seconds: float
    database: float  # seconds of processors in the processes of the server
    processes: float  # likewise in those of apflow
    commits: float
    wal_bytes: float
    stored_bytes: float
    rows: float
    connections: int  # of clients, at its end


async def usage(server: str, running: int, work: Callable[[TaskStore], Awaitable[object]]) -> Usage:
    """Return what work on a new database uses while so many workers run."""
    async with fresh_database(server) as store:
        connection = await asyncpg.connect(store.url)
        try:
            backend = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
            postmaster, own = backend.parent(), psutil.Process()
            assert postmaster is not None
            with workers(running, store.url):
                await asyncio.sleep(SETTLE_SECONDS)
                counters = await _counters(connection)
                before = perf_counter(), _processor_seconds(postmaster), _processor_seconds(own)
                await work(store)
                after = perf_counter(), _processor_seconds(postmaster), _processor_seconds(own)
                clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                connections = await connection.fetchval(clients) - 1
        finally:
            await connection.close()
        await store.close()
        # Backends report what they have counted when they end, at the latest.
        connection = await asyncpg.connect(store.url)
        try:
            counted = [
                late - early for late, early in zip(await _counters(connection), counters, strict=True)
            ]
        finally:
            await connection.close()
    used = [late - early for late, early in zip(after, before, strict=True)]
    return Usage(*used, *counted, connections=connections)


async def _counters(connection: asyncpg.Connection[Any]) -> list[float]:
    counters = await connection.fetchrow(COUNTERS)
    assert counters is not None
    return [float(each) for each in counters]


def _processor_seconds(process: psutil.Process) -> float:
    """Return the seconds of a process and its children, those that have ended included."""
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])
    return total


def running_trees(array: Sequence[dict[str, Any]], count: int) -> Callable[[TaskStore], Awaitable[None]]:
    """Return work that submits a tree so many times, and waits for the ends."""

    async def work(store: TaskStore) -> None:
        roots: list[str] = []
        for _ in range(count):
            roots.append((await TaskCreator(store).create_task_tree_from_array(list(array))).task.id)
            await submit(store, roots[-1])
        await until_ended(store, roots)

    return work


async def idling(_: TaskStore) -> None:
    """Submit nothing."""
    await asyncio.sleep(10.0)


async def placing(store: TaskStore, count: int = 1000) -> None:
    """Run a tree whose calls another process makes."""
    with overridden_defaults(runner="workers"):
        await TaskExecutor().execute_tasks(trees.group(count), db_session=store)


async def flush_seconds(server: str) -> float:
    """Return the seconds of a commit of one row that follows another one."""
    async with fresh_database(server) as store:
        connection = await asyncpg.connect(store.url)
        try:
            await connection.execute("CREATE TABLE flushed (n int)")
            times: list[float] = []
            for n in range(200):
                begin = perf_counter()
                await connection.execute("INSERT INTO flushed VALUES ($1)", n)
                times.append(perf_counter() - begin)
            return median(times)
        finally:
            await connection.close()


@dataclass(frozen=True)
class Measured:
    """What was measured: the usage by name, and the sizes of the trees."""

    usages: dict[str, Usage]
    flush: float
    singles: int
    groups: int
    width: int  # tasks of a group, with its root

    def costs(self) -> Costs:
        """Return the costs for the simulation.

        A tree of one task and one of many have different numbers of commits for a task, so that their
        usages tell the cost of a commit from that of a task.
        """
        single, group = self.usages["single"], self.usages["group"]
        tasks = self.groups * self.width
        per_commit = (single.database / self.singles - group.database / tasks) / (
            single.commits / self.singles - group.commits / tasks
        )
        per_task = group.database / tasks - per_commit * group.commits / tasks
        one, few, many = (
            self.usages[name].database / self.singles for name in ("single", "single, 4", "single, 12")
        )
        idle = self.usages["idle, 12"]
        return Costs(
            commit=max(per_commit, 0.0),
            task=max(per_task, 0.0),
            wake=max((few - one) / (FEW - 1), 0.0),
            notice=max((many - few) / (MANY - FEW), 0.0),
            idle=idle.database / idle.seconds / MANY,
            engine=group.processes / tasks,
            flush=self.flush,
            commits_per_tree=single.commits / self.singles,
        )


async def measure(server: str, scale: float) -> Measured:
    """Measure the costs of trees."""
    singles, groups, width = int(400 * scale), int(40 * scale), 101
    usages = {
        "single": await usage(server, 1, running_trees(trees.single(), singles)),
        "group": await usage(server, 1, running_trees(trees.group(width - 1), groups)),
        "single, 4": await usage(server, FEW, running_trees(trees.single(), singles)),
        "single, 12": await usage(server, MANY, running_trees(trees.single(), singles)),
        "group, 2": await usage(server, 2, running_trees(trees.group(width - 1), groups)),
        "idle, 12": await usage(server, MANY, idling),
        "placed": await usage(server, 1, placing),
    }
    return Measured(usages, await flush_seconds(server), singles, groups, width)


def tables(measured: Measured) -> str:
    """Return what was measured, what the model makes of it, and what it says of many workers."""
    tasks = {
        "single": measured.singles,
        "single, 4": measured.singles,
        "single, 12": measured.singles,
        "group": measured.groups * measured.width,
        "group, 2": measured.groups * measured.width,
        "placed": 1001,
    }
    about = {
        "single": "trees of one task, one worker",
        "single, 4": "the same, four workers",
        "single, 12": "the same, twelve workers",
        "group": f"trees of {measured.width} tasks, one worker",
        "group, 2": "the same, two workers",
        "placed": "a tree of 1,001 tasks, its calls placed on a worker",
    }
    rows = [
        "| work | tasks/s | database, ms/task | apflow, ms/task | commits/task | rows/task | bytes/task | "
        "WAL bytes/task | connections |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, count in tasks.items():
        used = measured.usages[name]
        figures = [
            count / used.seconds, used.database / count * 1000, used.processes / count * 1000,
            used.commits / count, used.rows / count, used.stored_bytes / count, used.wal_bytes / count,
        ]  # fmt: skip
        shown = [*(number(each) for each in figures), str(used.connections)]
        rows.append(f"| {about[name]} | {' | '.join(shown)} |")
    costs = measured.costs()
    idle = f"A process that waits uses {costs.idle * 1000:.2f} ms of the database each second. "
    flushed = f"A commit takes {costs.flush * 1000:.2f} ms. A tree that is submitted costs the database "
    wake = (
        f"{costs.wake * 1e6:.0f} µs for each process that it wakes and that finds nothing, and "
        f"{costs.notice * 1e6:.0f} µs for each other one."
    )
    return "\n".join([*rows, "", idle + flushed + wake, "", *_validation(measured, costs), "", *_many(costs)])


def _validation(measured: Measured, costs: Costs) -> list[str]:
    """Compare the model with the runs that its costs come from, in tasks per second."""
    rows = ["| work | measured, tasks/s | simulated, tasks/s |", "| --- | ---: | ---: |"]
    for name, running, shown in (("group", 1, "one worker"), ("group, 2", 2, "two workers")):
        real = measured.groups * measured.width / measured.usages[name].seconds
        load = Load(
            workers=running,
            processors=psutil.cpu_count() or 1,
            trees=0.0,
            levels=1,
            width=measured.width,
            call=0.0,
            is_one_machine=True,
            at_once=measured.groups,
        )
        rows.append(
            f"| trees of {measured.width} tasks, {shown} | {number(real)} | "
            f"{number(simulate(costs, load).tasks)} |"
        )
    return rows


def _many(costs: Costs) -> list[str]:
    """Simulate a hundred workers, with more and more tasks an hour."""
    rows = [
        "| tasks/hour | processors of the database | ended | start p50, ms | start p99, ms | database | "
        "flushes | workers |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for processors in (2, 8):
        for scale in SCALES:
            load = Load(workers=100, processors=processors, trees=scale * 1e6 / HOUR / 20)
            found = simulate(costs, load)
            share = min(1.0, found.tasks / load.tasks)
            shares = " | ".join(f"{each:.0%}" for each in (found.database, found.flush, found.worker))
            times = f"{found.start_p50 * 1000:,.0f} | {found.start_p99 * 1000:,.0f}"
            shown = times if share > ENOUGH else "grows | grows"
            rows.append(f"| {scale:,},000,000 | {processors} | {share:.0%} | {shown} | {shares} |")
    return rows


def main() -> int:
    """Measure, simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trees")
    parser.add_argument("--json", action="store_true", help="print the costs, for other simulations")
    options = parser.parse_args()
    with fresh_server() as server:
        measured = asyncio.run(measure(server, 0.1 if options.quick else 1.0))
    print(json.dumps(asdict(measured.costs())) if options.json else tables(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
