"""A campaign: trees are submitted while faults come, one after the other, as a seed decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apflow.testing.torture.cluster import Cluster
from apflow.testing.torture.decider import BY_COMMAND
from apflow.testing.torture.trees import make

WORKERS = 4
IN_FLIGHT = 5  # trees that are kept going while there are faults

Step = tuple[float, str]  # seconds to wait before, and what is done then


def plan(seed: str, counts: Mapping[str, int]) -> list[Step]:
    """Return the faults of a campaign in the order in which they come."""
    dice = random.Random(seed)  # noqa: S311  a seed repeats it
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    dice.shuffle(kinds)
    return [(dice.uniform(0.1, 0.9), kind) for kind in kinds]


@dataclass
class Campaign:
    """What is done to the workers of a cluster.

    Args:
        size: tasks of each tree.
        is_shared: whether several processes may use the database at once. Else there is one worker, which the
            command line asks to run trees.
    """

    seed: str
    cluster: Cluster
    size: int
    workers: int = WORKERS
    is_shared: bool = True
    _submitted: int = 0
    _frozen: dict[int, tuple[float, Callable[[], None]]] = field(
        default_factory=dict[int, tuple[float, Callable[[], None]]]
    )  # by slot: until when
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/victims")  # noqa: S311  a seed repeats it

    def run(self, counts: Mapping[str, int]) -> None:
        """Carry the faults out, let everything be well again, and wait until all trees have ended."""
        self.start()
        for seconds, kind in plan(self.seed, counts):
            self.befall(seconds, kind)
        self.finish()

    def start(self) -> None:
        """Start the workers and the first trees, and wait until one runs."""
        for slot in range(self.workers):
            self.cluster.start_worker(slot)
        self._start_decider()
        if not self.is_shared:
            self.cluster.wait_until_ready(0)
        self._submit()
        self.cluster.wait_for("started")

    def befall(self, seconds: float, kind: str) -> None:
        """Wait so many seconds, submit trees in place of those that have ended, and do what a fault does."""
        self._wait(seconds)
        self._submit()
        getattr(self, kind)()

    def finish(self) -> None:
        """Let everything be well again, and wait until all trees have ended."""
        self._wait(0, all_of_them=True)
        self.recover()
        ended = self.cluster.wait_for_ends()
        self.cluster.stop()
        if not ended:
            raise AssertionError(f"Trees have not ended long after the last fault.\n{self.cluster.log()}")

    def recover(self) -> None:
        """Take back what lasts of the faults, other than of workers."""

    def _submit(self) -> None:
        ended = sum(line["kind"] == "tree_ended" for line in self.cluster.history())
        for number in range(self._submitted, ended + IN_FLIGHT):
            name = f"tree{number}"
            is_by_command = not self.is_shared or number % 10 == 9
            submit = self.cluster.submit_by_command if is_by_command else self.cluster.submit
            submit(name, make(name, f"{self.seed}/{number}", self.size, asks=True))
            self._submitted += 1

    def _wait(self, seconds: float, *, all_of_them: bool = False) -> None:
        """Wait, and continue frozen workers when their time has come."""
        until = time.monotonic() + seconds
        while True:
            self.cluster.start_again()
            for slot, (at, thaw) in list(self._frozen.items()):
                if time.monotonic() >= at:
                    del self._frozen[slot]
                    thaw()
            if time.monotonic() >= until and not (all_of_them and self._frozen):
                return
            time.sleep(0.02)

    def _start_decider(self) -> None:
        self.cluster.start_decider(*([] if self.is_shared else [BY_COMMAND]))

    def _any_slot(self) -> int:
        return self._dice.choice([slot for slot in self.cluster.workers if slot not in self._frozen])

    # --- faults ----------------------------------------------------------------------------------

    def kill(self) -> None:
        """A worker is killed, and started again."""
        slot = self._any_slot()
        self.cluster.kill(slot)
        self.cluster.start_worker(slot)

    def kill_decider(self) -> None:
        """The process that decides approvals is killed, perhaps while it decides, and started again."""
        self.cluster.kill_decider()
        self._start_decider()

    def freeze(self) -> None:
        """A worker is frozen for longer than its leases last, and continues."""
        if self._frozen and len(self._frozen) == self.workers - 1:
            self._wait(0, all_of_them=True)
        slot, seconds = self._any_slot(), self.cluster.lease + self._dice.uniform(0.2, 1.5)
        self._frozen[slot] = (time.monotonic() + seconds, self.cluster.freeze(slot))
        if not self.is_shared:  # nothing is submitted meanwhile
            self._wait(0, all_of_them=True)

    def drain(self) -> None:
        """A worker gets SIGTERM, and another one is started."""
        slot = self._any_slot()
        self.cluster.drain(slot)
        self.cluster.start_worker(slot)

    def roll(self) -> None:
        """All workers are replaced, one after the other."""
        self._wait(0, all_of_them=True)
        for slot in list(self.cluster.workers):
            self.cluster.drain(slot)
            self.cluster.start_worker(slot)
