"""Many workers on one PostgreSQL, as a discrete-event model with measured costs.

The model has what the engine does for a task: the process that runs the tree prepares the call, a transaction
makes the start durable, the call takes its time, and a transaction makes the end durable; then the next level
of the tree is ready. Each process writes the changes that have gathered in one transaction at a time, and the
database flushes all transactions that wait in one go.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

import simpy

from apflow.core.engine.worker import WOKEN

SEED: Final = 1
WARM_UP: Final = 1 / 3  # of the simulated time, which does not count

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured, in seconds of one processor unless named otherwise.

    Attributes:
        commit: of the database, for a transaction without its tasks.
        task: of the database, for a task: its row, and its changes and events until it has ended.
        wake: of the database, for each process that a submitted tree wakes, and that does not get it.
        notice: of the database, for each further process that learns of a submitted tree.
        idle: of the database, each second, for a process that only waits.
        engine: of the process that runs a tree, for a task.
        flush: seconds until a commit is on disk.
        commits_per_tree: transactions that a tree of one task takes.
    """

    commit: float
    task: float
    wake: float
    notice: float
    idle: float
    engine: float
    flush: float
    commits_per_tree: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is simulated.

    Attributes:
        workers: processes that run trees.
        processors: of the database server; of all processes together if `is_one_machine`.
        trees: submitted each second, at random times; see also `at_once`.
        levels: of a tree, one after the other.
        width: tasks of each level.
        call: mean seconds of a call, which is exponentially distributed.
        seconds: that are simulated.
        is_one_machine: whether the workers use the processors of the database, too.
        at_once: trees that are submitted at the beginning instead; the simulation ends with them.
    """

    workers: int
    processors: int
    trees: float
    levels: int = 4
    width: int = 5
    call: float = 1.0
    seconds: float = 60.0
    is_one_machine: bool = False
    at_once: int = 0

    @property
    def tasks(self) -> float:
        """Tasks that are submitted each second."""
        return self.trees * self.levels * self.width


@dataclass(frozen=True)
class Outcome:
    """What a simulation gives. Times are seconds from a task being ready to its call."""

    tasks: float  # that have ended, each second
    start_p50: float
    start_p99: float
    database: float  # the share of the processors of the database that is used
    flush: float  # the share of the time in which the database flushes
    worker: float  # the share of its processor that the mean worker uses


@dataclass
class _Site:
    """The simulated database and workers."""

    env: simpy.Environment
    costs: Costs
    load: Load
    chance: random.Random
    processors: simpy.Resource = field(init=False)
    flushed: simpy.Event = field(init=False)  # the flush that begins next has ended
    wanted: simpy.Event = field(init=False)  # something waits for a flush
    database_used: float = 0.0
    flush_used: float = 0.0
    worker_used: float = 0.0
    ended: int = 0
    starts: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self.processors = simpy.Resource(self.env, self.load.processors)
        self.flushed, self.wanted = self.env.event(), self.env.event()

    @property
    def counts(self) -> bool:
        """Whether the time of warming up is over."""
        return bool(self.load.at_once) or self.env.now >= WARM_UP * self.load.seconds

    def use_processor(self, seconds: float) -> Steps:
        """Use one of the processors."""
        with self.processors.request() as turn:
            yield turn
            yield self.env.timeout(seconds)

    def use_database(self, seconds: float) -> Steps:
        """Use a processor for the database."""
        yield from self.use_processor(seconds)
        if self.counts:
            self.database_used += seconds

    def commit(self, seconds: float) -> Steps:
        """Do the work of a transaction, and wait until it is on disk."""
        yield from self.use_database(seconds)
        flushed = self.flushed
        if not self.wanted.triggered:
            self.wanted.succeed()
        yield flushed

    def flush_forever(self) -> Steps:
        """Flush what waits, in one go."""
        while True:
            yield self.wanted
            self.wanted, flushed, self.flushed = self.env.event(), self.flushed, self.env.event()
            yield self.env.timeout(self.costs.flush)
            if self.counts:
                self.flush_used += self.costs.flush
            flushed.succeed()


class _Worker:
    """A process that runs trees."""

    def __init__(self, site: _Site) -> None:
        self.site, self.env = site, site.env
        self.loop = simpy.Resource(self.env, 1)  # the event loop
        self.written = self.env.event()  # the transaction that begins next is durable
        self.changed = self.env.event()
        self.changes = 0

    def write_forever(self) -> Steps:
        """Write the changes that have gathered, one transaction after the other."""
        costs = self.site.costs
        while True:
            yield self.changed
            count, self.changes = self.changes, 0
            self.changed, written, self.written = self.env.event(), self.written, self.env.event()
            yield from self.site.commit(costs.commit + count * costs.task / 2)
            written.succeed()

    def idle_forever(self) -> Steps:
        """Renew leases, and look for trees."""
        while True:
            yield self.env.timeout(self.site.chance.uniform(0.5, 1.5))
            yield from self.site.use_database(self.site.costs.idle)

    def change(self) -> simpy.Event:
        """Change a task; return what happens when that is durable."""
        self.changes += 1
        if not self.changed.triggered:
            self.changed.succeed()
        return self.written

    def work(self, seconds: float) -> Steps:
        """Use the event loop."""
        with self.loop.request() as turn:
            yield turn
            if self.site.load.is_one_machine:
                yield from self.site.use_processor(seconds)
            else:
                yield self.env.timeout(seconds)
        if self.site.counts:
            self.site.worker_used += seconds

    def run_tree(self) -> Steps:
        """Take a tree that was submitted, and run its levels."""
        site, costs, load = self.site, self.site.costs, self.site.load
        others = load.workers - 1
        woken = min(others, WOKEN)
        notification = woken * costs.wake + (others - woken) * costs.notice
        # The last transaction of a tree is that of its last task, which is counted there.
        transactions = max(costs.commits_per_tree - 1, 0.0)
        yield from site.commit(transactions * costs.commit + notification)
        for _ in range(load.levels):
            ready = self.env.now
            yield self.env.all_of([self.env.process(self.run_task(ready)) for _ in range(load.width)])

    def run_task(self, ready: float) -> Steps:
        """Run a task that is ready."""
        site = self.site
        yield from self.work(site.costs.engine / 2)
        yield self.change()
        if site.counts:
            site.starts.append(self.env.now - ready)
        yield self.env.timeout(site.chance.expovariate(1 / site.load.call) if site.load.call else 0.0)
        yield from self.work(site.costs.engine / 2)
        yield self.change()
        site.ended += site.counts


def simulate(costs: Costs, load: Load) -> Outcome:
    """Return what workers and a database with these costs do under a load."""
    env = simpy.Environment()
    site = _Site(env, costs, load, random.Random(SEED))
    workers = [_Worker(site) for _ in range(load.workers)]
    env.process(site.flush_forever())
    for each in workers:
        env.process(each.write_forever())
        env.process(each.idle_forever())

    def submit_forever() -> Steps:
        while True:
            yield env.timeout(site.chance.expovariate(load.trees))
            env.process(site.chance.choice(workers).run_tree())

    if load.at_once:
        running = [env.process(workers[n % load.workers].run_tree()) for n in range(load.at_once)]
        env.run(env.all_of(running))
        counted = env.now
    else:
        env.process(submit_forever())
        env.run(load.seconds)
        counted = (1 - WARM_UP) * load.seconds
    cuts = quantiles(site.starts, n=100) if len(site.starts) > 1 else [float("inf")] * 99
    return Outcome(
        site.ended / counted,
        cuts[49],
        cuts[98],
        site.database_used / counted / load.processors,
        site.flush_used / counted,
        site.worker_used / counted / load.workers,
    )
