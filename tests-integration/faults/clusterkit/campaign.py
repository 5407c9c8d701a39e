"""A campaign: trees are submitted while faults come, one after the other, as a seed decides."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from apflow.testing.postgres import is_commit
from apflow.testing.postgresserver import Server
from apflow.testing.proxy import Proxy, at_most
from clusterkit.cluster import Cluster
from clusterkit.trees import make

WORKERS = 4
IN_FLIGHT = 5  # trees that are kept going while there are faults

Step = tuple[float, str]  # seconds to wait before, and what is done then


def plan(seed: str, counts: Mapping[str, int]) -> list[Step]:
    """Return the faults of a campaign in the order in which they come."""
    dice = random.Random(seed)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    dice.shuffle(kinds)
    return [(dice.uniform(0.1, 0.9), kind) for kind in kinds]


@dataclass
class Campaign:
    """What is done to a cluster, its server, and the proxy between them.

    Args:
        size: tasks of each tree.
    """

    seed: str
    cluster: Cluster
    server: Server
    proxy: Proxy
    size: int
    _submitted: int = 0
    _frozen: dict[int, tuple[float, Callable[[], None]]] = field(default_factory=dict)  # by slot: until when
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/victims")

    def run(self, counts: Mapping[str, int]) -> None:
        """Carry the faults out, let everything be well again, and wait until all trees have ended."""
        for slot in range(WORKERS):
            self.cluster.start_worker(slot)
        self._submit()
        self.cluster.wait_for("started")
        for seconds, kind in plan(self.seed, counts):
            self._wait(seconds)
            self._submit()
            getattr(self, kind)()
        self._wait(0, all_of_them=True)
        self.proxy.pass_on()
        ended = self.cluster.wait_for_ends()
        self.cluster.stop()
        assert ended, f"Trees have not ended long after the last fault.\n{self.cluster.log()}"

    def _submit(self) -> None:
        ended = sum(line["kind"] == "tree_ended" for line in self.cluster.history())
        for number in range(self._submitted, ended + IN_FLIGHT):
            name = f"tree{number}"
            submit = self.cluster.submit_by_command if number % 10 == 9 else self.cluster.submit
            submit(name, make(name, f"{self.seed}/{number}", self.size))
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

    def _any_slot(self) -> int:
        return self._dice.choice([slot for slot in self.cluster.workers if slot not in self._frozen])

    # --- faults ----------------------------------------------------------------------------------

    def kill(self) -> None:
        """A worker is killed, and started again."""
        slot = self._any_slot()
        self.cluster.kill(slot)
        self.cluster.start_worker(slot)

    def freeze(self) -> None:
        """A worker is frozen for longer than its leases last, and continues."""
        if len(self._frozen) == WORKERS - 1:
            self._wait(0, all_of_them=True)
        slot, seconds = self._any_slot(), self.cluster.lease + self._dice.uniform(0.2, 1.5)
        self._frozen[slot] = (time.monotonic() + seconds, self.cluster.freeze(slot))

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

    def restart_fast(self) -> None:
        self._to_server("restart fast", partial(self.server.restart, "fast"))

    def restart_immediate(self) -> None:
        self._to_server("restart immediate", partial(self.server.restart, "immediate"))

    def kill_server(self) -> None:
        def kill() -> None:
            self.server.kill()
            self.server.start()

        self._to_server("kill", kill)

    def restart_in_sweep(self) -> None:
        """The server goes down while a killed worker's trees are about to be taken."""
        self.kill()
        self._wait(self.cluster.lease + self._dice.uniform(-0.2, 0.8))
        self.restart_immediate()

    def cut(self) -> None:
        self._to_server("cut", self.proxy.lose_all)

    def delay(self) -> None:
        """The network is slow for a while."""
        self._to_server("delay", lambda: self.proxy.delay(self._dice.uniform(0.01, 0.1)))
        self._wait(self._dice.uniform(0.5, 2))
        self.proxy.pass_on()

    def black_hole(self) -> None:
        """Nothing comes through for a while, perhaps longer than leases last."""
        self._to_server("black hole", self.proxy.stall)
        self._wait(self._dice.uniform(0.5, 2 * self.cluster.lease))
        if self._dice.random() < 0.5:
            self.proxy.lose_all()
        self.proxy.pass_on()

    def strand(self) -> None:
        """Clients lose their connections, and the server does not notice for a while."""
        self._to_server("strand", self.proxy.strand)
        self._wait(self._dice.uniform(0.5, 2 * self.cluster.lease))
        self.proxy.pass_on()

    def lose_answers(self) -> None:
        """The answers to some COMMITs are lost."""
        self._to_server("lost answers", lambda: setattr(self.proxy, "cut_after", at_most(3, is_commit)))

    def lose_commits(self) -> None:
        """Some COMMITs do not reach the server."""
        self._to_server("lost commits", lambda: setattr(self.proxy, "cut_before", at_most(3, is_commit)))

    def _to_server(self, what: str, act: Callable[[], object]) -> None:
        self.cluster.note("server", what=what)
        act()
