"""A campaign that also befalls the server of the database, and the network before it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from apflow.testing.postgres import is_commit
from apflow.testing.postgresserver import Server
from apflow.testing.proxy import Proxy, at_most
from apflow.testing.torture.campaign import Campaign


@dataclass(kw_only=True)
class ServerCampaign(Campaign):
    """What is done to a cluster, its server, and the proxy between them."""

    server: Server
    proxy: Proxy

    def recover(self) -> None:
        self.proxy.pass_on()

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
