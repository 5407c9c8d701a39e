"""Short stories of two workers, each of which a certain fault would not come through."""

from collections.abc import Callable
from dataclasses import dataclass

from apflow.testing.postgres import is_commit
from apflow.testing.proxy import Proxy, at_most
from apflow.testing.torture.cluster import Cluster
from apflow.testing.torture.trees import Array

LEASE = 1.5  # seconds
TIMEOUT_SECONDS = 5.0  # seconds to wait for the end where a planted fault may prevent it
END = 60.0  # seconds to wait where nothing prevents it: the longest story takes 15 on an idle machine


@dataclass
class Stage:
    """Where a story takes place."""

    cluster: Cluster
    proxy: Proxy
    patience: float = END

    def submit(self, middle: float, effect: str = "idempotent") -> int:
        """Start two workers and a tree; return the slot of the one that runs its first body.

        The tree is a chain: `first`, `middle` (so many seconds, with this effect), `last`.
        """
        for slot in range(2):
            self.cluster.start_worker(slot)
            self.cluster.wait_until_ready(slot)
        self.cluster.submit("chain", chain(middle, effect))
        return self.cluster.slot_of(self.cluster.wait_for("started")["life"])

    def wait_for_middle(self, after: int = 0) -> int:
        """Wait until the body of the middle task has started, and return the process that runs it."""
        first = self.cluster.wait_for("started")["task_id"]
        line = self.cluster.wait_for("started", after=after, but={"task_id": first})
        return int(line["life"])

    def finish(self) -> None:
        self.cluster.wait_for_ends(patience=self.patience)


def chain(middle: float, effect: str) -> Array:
    def task(name: str, seconds: float, **more: object) -> dict[str, object]:
        plain = {"id": name, "name": name, "parent_id": "chain", "schemas": {"method": "noted"}}
        return plain | {"inputs": {"seconds": seconds}} | more

    after_first = [{"id": "first", "required": True}]
    after_middle = [{"id": "middle", "required": effect != "once"}]
    return [
        {"id": "chain", "name": "chain"},
        task("first", 0.3),
        task("middle", middle, dependencies=after_first, policy={"effect": effect}),
        task("last", 0.1, dependencies=after_middle),
    ]


def nothing_happens(stage: Stage) -> None:
    """A body takes longer than a lease, and that is all."""
    stage.submit(middle=2 * LEASE)
    stage.finish()


def one_stands_still(stage: Stage, middle: float = LEASE) -> None:
    """A worker is frozen for longer than its lease; it continues when another one has begun its work."""
    stage.submit(middle)
    pid = stage.wait_for_middle()
    after = stage.cluster.seen()
    thaw = stage.cluster.freeze(stage.cluster.slot_of(pid))
    stage.wait_for_middle(after)
    thaw()
    stage.finish()


def one_stands_still_with_much_to_do(stage: Stage) -> None:
    one_stands_still(stage, middle=4 * LEASE)


def one_dies_in_a_body(stage: Stage) -> None:
    """A worker dies in a body that may start once."""
    stage.submit(middle=2.0, effect="once")
    stage.cluster.kill(stage.cluster.slot_of(stage.wait_for_middle()))
    stage.finish()


def one_dies_as_a_body_starts(stage: Stage) -> None:
    """A worker dies a moment after a body has started."""
    stage.cluster.kill(stage.submit(middle=0.1))
    stage.finish()


def one_dies_as_an_end_is_told(stage: Stage) -> None:
    """A worker dies a moment after a subscriber received an end event."""
    slot = stage.submit(middle=0.1)
    stage.cluster.wait_for("told", type="task_completed")
    stage.cluster.kill(slot)
    stage.finish()


def one_is_drained(stage: Stage) -> None:
    """A worker gets SIGTERM while a body runs that exceeds the shutdown timeout."""
    stage.submit(middle=2.0)
    stage.cluster.drain(stage.cluster.slot_of(stage.wait_for_middle()))
    stage.finish()


def a_commit_is_lost(stage: Stage) -> None:
    """The COMMIT with the end of a body does not reach the server."""
    stage.submit(middle=0.1)
    stage.cluster.note("server", what="lost commit")
    stage.proxy.cut_before = at_most(1, is_commit)
    stage.finish()


def the_submitter_dies(stage: Stage) -> None:
    """The one who submits dies as soon as it has its acknowledgement."""
    stage.cluster.start_submitter("clusterkit.planted")
    stage.cluster.submit("chain", chain(0.1, "idempotent"))
    stage.cluster.wait_for("acknowledged")
    stage.cluster.kill_submitter()
    stage.cluster.start_worker(0)
    stage.finish()


Story = Callable[[Stage], None]

# Each planted fault, the story that it does not come through, and a check that says so.
CAUGHT: dict[str, tuple[Story, str]] = {
    "fence_dropped": (one_stands_still, "what_is_stored_is_its_owners"),
    "lease_never_checked": (one_stands_still_with_much_to_do, "work_that_was_lost_is_ended"),
    "sweep_without_owner_check": (nothing_happens, "nothing_living_is_robbed"),
    "lease_never_renewed": (nothing_happens, "nothing_living_is_robbed"),
    "heartbeat_revives": (nothing_happens, "everything_ends"),
    "completed_twice": (nothing_happens, "each_ends_once"),
    "order_ignored": (nothing_happens, "bodies_start_after_what_they_need"),
    "once_again": (one_dies_in_a_body, "once_means_at_most_once"),
    "called_before_commit": (one_dies_as_a_body_starts, "bodies_start_after_their_stored_start"),
    "told_before_commit": (one_dies_as_an_end_is_told, "what_is_told_is_stored"),
    "drain_forgets": (one_is_drained, "a_drain_interrupts_nothing"),
    "commit_taken_for_done": (a_commit_is_lost, "bodies_start_after_their_stored_start"),
    "acknowledged_before_commit": (the_submitter_dies, "everything_ends"),
}
