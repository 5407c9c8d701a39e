"""A server under mixed load for many minutes, on a file that was opened before.

    python -m benchmarks.endurance                 # 30 minutes
    python -m benchmarks.endurance --minutes 4

The load: clients that create and run trees of 100 tasks, clients whose tasks have results of 1 MB,
subscribers that follow trees, and readers of lists and whole trees. At the end, the server is compared with
new ones, each on a copy of the file as it was at the beginning. They have the same load by turns, because a
machine under constant load becomes slower itself. Each turn is measured when the buffers of DuckDB are full:
until it reaches its memory limit, a server is a tenth faster. The last lines say PASS or FAIL for each limit;
the exit code is 1 where one is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import httpx
import psutil

from apflow.core.model.task import Json
from benchmarks import trees
from benchmarks.serving import ask, server

CLIENTS, LARGE_CLIENTS, SUBSCRIBERS, READERS = 8, 2, 20, 2
SIZE = 99  # tasks below the root of each tree
LARGE_RESULT = 1_000_000  # bytes
LARGE_PAUSE = 0.5  # seconds between two trees with large results of a client
TREES_BEFORE = 1_000  # in the file before it is opened again: a nearly empty file is faster
SAMPLE_SECONDS = 2.0
PRINT_SECONDS = 20.0
REST_SECONDS = 20.0
MAX_WAL_MB = 20.0
COMPARISONS = 3  # turns of a new server and of the one under test
FILLING_SECONDS = 40.0  # of a turn, in which the buffers of a new server become full
COMPARED_SECONDS = 60.0  # of a turn, after that
MIN_THROUGHPUT = 0.9  # of the server after the load, as a share of a new one by turns with it
MAX_GROWTH = 1.25  # of the memory in the last fifth, as a multiple of that in the second


@dataclass
class Load:
    """What the clients have done, and what is seen of the server meanwhile."""

    url: str
    pid: int
    file: Path
    until: float
    tasks: int = 0
    events: int = 0
    reads: int = 0
    roots: list[str] = field(default_factory=list[str])  # of the newest trees
    samples: list[Sample] = field(default_factory=list["Sample"])

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.until

    def sample(self) -> Sample:
        """Look at the server."""
        log = self.file.with_name(f"{self.file.name}.wal")
        process = psutil.Process(self.pid)
        return Sample(
            time.monotonic(),
            self.tasks,
            sum(process.cpu_times()[:2]),
            process.memory_info().rss / (1 << 20),
            (log.stat().st_size if log.exists() else 0) / 1e6,
            fixed_work(),
        )


@dataclass(frozen=True)
class Sample:
    """The state at one moment."""

    at: float  # by the monotonic clock
    tasks: int  # completed so far
    processor: float  # seconds that the server has used
    memory: float  # MiB
    wal: float  # MB
    fixed_work: float  # ms


@dataclass(frozen=True)
class Measurements:
    """What the run has shown."""

    minutes: float
    tasks: int
    events: int
    reads: int
    largest_wal_mb: float
    first_minute: float  # tasks per second
    last_minute: float
    first_cost: float  # ms of the processor per task, which a busy machine changes less
    last_cost: float
    first_fixed_work: float  # ms; how much slower the machine itself has become
    last_fixed_work: float
    new_servers: list[float]  # tasks per second of new servers, after the load
    same_server: list[float]  # of this one, by turns with them
    memory_early: float  # MiB, mean of the second fifth of the time
    memory_late: float  # of the last fifth
    memory_at_rest: float  # after it

    def limits(self) -> list[tuple[bool, str]]:
        """Return whether each limit is kept, and the figures."""
        share = median(self.same_server) / median(self.new_servers)
        growth = self.memory_late / self.memory_early
        return [
            (
                self.largest_wal_mb < MAX_WAL_MB,
                f"write-ahead log at most {self.largest_wal_mb:.1f} MB; limit {MAX_WAL_MB:g}",
            ),
            (
                share >= MIN_THROUGHPUT,
                f"throughput {median(self.same_server):.0f} tasks/s after the load, where new servers have "
                f"{median(self.new_servers):.0f}: {share:.2f} of it, limit {MIN_THROUGHPUT:g} (first minute "
                f"{self.first_minute:.0f}, last {self.last_minute:.0f}; fixed work of the machine "
                f"{self.first_fixed_work:.2f} ms, {self.last_fixed_work:.2f} ms)",
            ),
            (
                growth <= MAX_GROWTH,
                f"memory {self.memory_early:.0f} MiB early, {self.memory_late:.0f} late: {growth:.2f} of it, "
                f"limit {MAX_GROWTH:g}",
            ),
            (
                self.memory_at_rest <= self.memory_late * 1.05,
                f"memory at rest {self.memory_at_rest:.0f} MiB; limit: what it was under load",
            ),
        ]


async def run_trees(client: httpx.AsyncClient, load: Load) -> None:
    """Create and run trees of many small tasks, one after the other."""
    array = trees.fan_out(SIZE)
    while load.goes_on:
        root_id = await _run(client, load, array)
        load.roots = [*load.roots[1 - CLIENTS :], root_id]


async def run_large(client: httpx.AsyncClient, load: Load) -> None:
    """Create and run trees whose tasks have large results.

    The root has no large result: lists of the newest 100 roots would be 100 MB, and dominate the load.
    """
    leaf: dict[str, Json] = {"schemas": {"method": trees.LARGE}, "inputs": {"size": LARGE_RESULT}}
    array: list[dict[str, Json]] = [{"id": "root", "name": "large results"}]
    array += [{"id": f"leaf{n}", "name": f"leaf {n}", "parent_id": "root", **leaf} for n in range(3)]
    while load.goes_on:
        await _run(client, load, array)
        await asyncio.sleep(LARGE_PAUSE)


async def _run(client: httpx.AsyncClient, load: Load, array: Sequence[dict[str, Json]]) -> str:
    answer = await ask(client, "tasks.execute", tasks=array)
    root_id = str(answer["root_task_id"])
    async with client.stream("GET", f"/tasks/{root_id}/events", timeout=120) as stream:
        async for _ in stream.aiter_raw():
            pass
    load.tasks += len(array)
    return root_id


async def subscribe(client: httpx.AsyncClient, load: Load) -> None:
    """Follow one of the newest trees after the other."""
    while load.goes_on:
        if not load.roots:
            await asyncio.sleep(0.1)
            continue
        root_id = load.roots[-1]
        async with client.stream("GET", f"/tasks/{root_id}/events?after=0", timeout=120) as stream:
            async for line in stream.aiter_lines():
                load.events += line.startswith("event:")
        await asyncio.sleep(0.5)


async def read(client: httpx.AsyncClient, load: Load) -> None:
    """List the newest roots, and read whole trees."""
    while load.goes_on:
        await ask(client, "tasks.list", limit=100)
        if load.roots:
            await ask(client, "tasks.tree", task_id=load.roots[0])
        load.reads += 1
        await asyncio.sleep(0.2)


async def watch(load: Load) -> None:
    """Take samples, and print what each `PRINT_SECONDS` have shown."""
    samples = load.samples
    while load.goes_on:
        samples.append(load.sample())
        recent = samples[-1 - int(PRINT_SECONDS / SAMPLE_SECONDS) :]
        if len(samples) > 1 and (len(samples) - 1) % int(PRINT_SECONDS / SAMPLE_SECONDS) == 0:
            print(
                f"{samples[-1].at - samples[0].at:6.0f} s: {_rate(recent):5.0f} tasks/s, "
                f"{_cost(recent):5.2f} ms of the processor per task, {samples[-1].memory:4.0f} MiB, "
                f"log at most {max(each.wal for each in recent):4.1f} MB, "
                f"fixed work {_mean([each.fixed_work for each in recent]):4.2f} ms",
                flush=True,
            )
        await asyncio.sleep(SAMPLE_SECONDS)


async def endure(load: Load) -> None:
    """Run the load against the server until it is over."""
    work = [run_trees] * CLIENTS + [run_large] * LARGE_CLIENTS
    work += [subscribe] * SUBSCRIBERS + [read] * READERS
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with (
        httpx.AsyncClient(base_url=load.url, trust_env=False, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(watch(load), name="endurance:watch")
        for number, each in enumerate(work):
            group.create_task(each(client, load), name=f"endurance:{each.__name__}-{number}")


def throughput(url: str, pid: int, file: Path) -> float:
    """Return the tasks per second of a server under the same load, when its buffers are full."""
    load = Load(url, pid, file, time.monotonic() + FILLING_SECONDS + COMPARED_SECONDS)
    asyncio.run(endure(load))
    begin = load.samples[0].at + FILLING_SECONDS
    return _rate([each for each in load.samples if each.at >= begin])


def measured(
    load: Load, rest: Sample, minutes: float, new_servers: list[float], same_server: list[float]
) -> Measurements:
    """Return what the samples show."""
    samples = load.samples
    fifth = max(1, len(samples) // 5)
    minute = min(60.0, (samples[-1].at - samples[0].at) / 3)
    first = [each for each in samples if each.at <= samples[0].at + minute]
    last = [each for each in samples if each.at >= samples[-1].at - minute]
    return Measurements(
        minutes=minutes,
        tasks=load.tasks,
        events=load.events,
        reads=load.reads,
        largest_wal_mb=max(each.wal for each in samples),
        first_minute=_rate(first),
        last_minute=_rate(last),
        first_cost=_cost(first),
        last_cost=_cost(last),
        first_fixed_work=median(each.fixed_work for each in first),
        last_fixed_work=median(each.fixed_work for each in last),
        new_servers=new_servers,
        same_server=same_server,
        memory_early=_mean([each.memory for each in samples[fifth : 2 * fifth]]),
        memory_late=_mean([each.memory for each in samples[-fifth:]]),
        memory_at_rest=rest.memory,
    )


def fixed_work() -> float:
    """Return the milliseconds of the processor that the same small computation takes now.

    The processors of a virtual machine can become slower under constant load, and a server looks slower then.
    """
    begin = time.thread_time()
    for _ in range(20):
        sorted(str(each) for each in range(400))
    return (time.thread_time() - begin) * 1000


def _rate(samples: Sequence[Sample]) -> float:
    return (samples[-1].tasks - samples[0].tasks) / (samples[-1].at - samples[0].at)


def _cost(samples: Sequence[Sample]) -> float:
    """Return the time of the processor that a task took, in milliseconds."""
    used = samples[-1].processor - samples[0].processor
    return 1000 * used / max(1, samples[-1].tasks - samples[0].tasks)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


async def prepare(url: str) -> None:
    """Run some trees, so that the file is not empty when it is opened again."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for _ in range(TREES_BEFORE):
            await ask(client, "tasks.execute", tasks=trees.fan_out(SIZE), wait=True)


def main() -> int:
    """Run the load; print the figures as JSON, and whether each limit is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance")
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes: float = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="apflow-endurance-") as folder:
        file, before = Path(folder) / "endurance.duckdb", Path(folder) / "before.duckdb"
        with server(file) as (url, _, _):
            asyncio.run(prepare(url))
        shutil.copy(file, before)
        with server(file) as (url, pid, _):
            load = Load(url, pid, file, time.monotonic() + minutes * 60)
            asyncio.run(endure(load))
            time.sleep(REST_SECONDS)
            rest = load.sample()
            new_servers: list[float] = []
            same_server: list[float] = []
            for number in range(COMPARISONS):
                copy = before.with_name(f"new{number}.duckdb")
                shutil.copy(before, copy)
                print("A new server:", flush=True)
                with server(copy) as (other_url, other_pid, _):
                    new_servers.append(throughput(other_url, other_pid, copy))
                print("The same server again:", flush=True)
                same_server.append(throughput(url, pid, file))
            measurements = measured(load, rest, minutes, new_servers, same_server)
    print(json.dumps(asdict(measurements), indent=2))
    limits = measurements.limits()
    for is_kept, about in limits:
        print(f"{'PASS' if is_kept else 'FAIL'}  {about}")
    return 0 if all(is_kept for is_kept, _ in limits) else 1


if __name__ == "__main__":
    sys.exit(main())
