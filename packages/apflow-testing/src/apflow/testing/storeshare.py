"""The contract of a store: who owns a run, and what several processes tell each other.

Where a store admits several processes, two of them are two stores of the same data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest

from apflow.core.errors import MoveLostError
from apflow.core.model.event import EventType
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.store.base import Change, Notice, NoticeKind, TaskStore, Transition
from apflow.testing.building import a_move, a_task, a_tree, an_event
from apflow.testing.storebase import StoreMaker

OLD = datetime(2020, 1, 1, tzinfo=UTC)
SOON = 20.0  # seconds after which a notice does not come any more


def a_request(root_id: str, **fields: Json) -> Task:
    """Return a root of which a run is requested."""
    return a_task(root_id, run_requested_at=OLD, **fields)


def owning(root_id: str, owner: str | None, *, before: str | None = None) -> Transition:
    """Return the move that sets the owner of a run."""
    return Transition(root_id, root_id, {"run_owner": before}, {"run_owner": owner})


def lapse(root_id: str) -> Transition:
    """Return the move after which a lease is over."""
    return Transition(root_id, root_id, {}, {"lease_until": OLD})


async def root_of(store: TaskStore, root_id: str = "r") -> Task:
    """Return a root as it is stored."""
    return (await store.get([root_id]))[root_id]


class Heard:
    """Notices that were heard, in the thread of a test."""

    def __init__(self, store: TaskStore) -> None:
        self.notices: list[Notice] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        store.listen(lambda notice: self._loop.call_soon_threadsafe(self._take, notice))

    def _take(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._changed.set()

    async def until(self, is_there: Callable[[list[Notice]], bool]) -> None:
        """Wait until the notices are as they should be."""
        async with asyncio.timeout(SOON):
            while not is_there(self.notices):
                self._changed.clear()
                await self._changed.wait()


class StoreShareContract(StoreMaker):
    """Owners, leases and notices.

    The rules are in `TaskStore.renew`, `unowned`, `reserve`, `listen` and `announce`, which a store
    overrides if several processes may use it (`capabilities.is_shared`).
    """

    async def test_runs_that_nobody_owns_are_found_by_those_who_could(self, store: TaskStore) -> None:
        for task in (a_request("r"), a_task("idle"), a_request("owned"), a_request("urgent", priority=0)):
            await store.add([task])
        await store.move([owning("owned", "me")])
        assert [task.id for task in await store.unowned("me", 9)] == ["urgent", "r"]
        assert [task.id for task in await store.unowned("me", 1)] == ["urgent"]
        assert [task.id for task in await store.unowned("me", 9, ["r", "owned", "idle", "ghost"])] == ["r"]
        assert list(await store.unowned("me", 9, [])) == []
        assert (await store.unowned("me", 1))[0].run_requested_at == OLD

    async def test_what_is_reserved_is_reserved_once(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        for root_id in "abcd":
            await mine.add([a_request(root_id)])
        await mine.move([owning("d", "they")])
        taken = await asyncio.gather(*(store.reserve("me", 2, ["a"]) for store in (mine, other)))
        assert sorted(root.id for roots in taken for root in roots) == ["b", "c"]
        assert [root.id for root in await other.reserve("me", 9)] == ["a"]
        await mine.move([lapse("d")])
        [dead] = await other.reserve("me", 9)
        assert (dead.id, dead.run_owner) == ("d", None)
        expects = {"run_owner": None, "lease_until": dead.lease_until}
        assert await mine.move([Transition("d", "d", expects, {"run_owner": "me"})]) != [None]
        assert list(await other.reserve("me", 9)) == []

    async def test_a_lease_belongs_to_the_owner_of_a_run(self, store: TaskStore) -> None:
        await store.add([a_request("r")])
        await store.move([owning("r", "me")])
        taken = (await root_of(store)).lease_until
        assert (taken is not None) is store.capabilities.is_shared
        renewed = await store.renew("me", ["r", "ghost"])
        assert renewed == ({"r": False} if store.capabilities.is_shared else {})
        await store.move([owning("r", None, before="me")])
        assert (await root_of(store)).lease_until is None
        assert await store.renew("me", ["r"]) == {}
        assert await store.renew("me", []) == {}

    async def test_a_renewal_prolongs_what_is_still_owned(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        await mine.add([a_request("r")])
        await mine.add([a_request("theirs")])
        await mine.move([owning("r", "me"), owning("theirs", "they")])
        before = {root_id: (await root_of(mine, root_id)).lease_until for root_id in ("r", "theirs")}
        assert await mine.renew("me", ["r", "theirs"]) == {"r": False}
        after = {root_id: (await root_of(other, root_id)).lease_until for root_id in ("r", "theirs")}
        assert (before["r"] or OLD) < (after["r"] or OLD)
        assert before["theirs"] == after["theirs"]

    async def test_a_renewal_tells_of_a_cancel_that_waits(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        await mine.add([a_request("r"), a_task("a", "r"), a_task("b", "r")])
        await mine.move([owning("r", "me"), a_move("a", "pending", "in_progress")])
        await other.move([Transition("b", "r", {"status": "pending"}, {"cancel_requested_at": OLD})])
        assert await mine.renew("me", ["r"]) == {"r": False}
        await other.move([Transition("a", "r", {"status": "in_progress"}, {"cancel_requested_at": OLD})])
        assert await mine.renew("me", ["r"]) == {"r": True}

    async def test_a_renewal_never_touches_a_run_that_has_ended(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        mine, _ = two
        await mine.add([a_request("r")])
        await mine.move([owning("r", "me")])
        await mine.move([Transition("r", "r", {}, {"run_ended_at": OLD})])
        before = (await root_of(mine)).lease_until
        assert await mine.renew("me", ["r"]) == {"r": False}
        assert (await root_of(mine)).lease_until == before

    async def test_a_run_whose_lease_is_over_is_found_and_taken_by_one(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        mine, other = two
        await mine.add([a_request("r")])
        await mine.move([owning("r", "me")])
        assert list(await other.unowned("they", 9)) == []
        await mine.move([lapse("r")])
        [found] = await other.unowned("they", 9)
        expects = {"run_owner": found.run_owner, "lease_until": found.lease_until}
        take = [
            Change(moves=[Transition("r", "r", expects, {"run_owner": f"taker {each}"})], is_strict=True)
            for each in range(8)
        ]
        outcomes = await asyncio.gather(
            *(two[at % 2].write(change) for at, change in enumerate(take)), return_exceptions=True
        )
        winners = [at for at, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert len(winners) == 1
        assert (await root_of(mine)).run_owner == f"taker {winners[0]}"
        assert await mine.renew("me", ["r"]) == {}

    async def test_a_lease_of_a_clock_that_was_set_back_is_over(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        mine, other = two
        await mine.add([a_request("r")])
        await mine.move([owning("r", "dead")])
        await mine.move([Transition("r", "r", {}, {"lease_until": utc_now() + timedelta(hours=1)})])
        assert [root.id for root in await other.unowned("they", 9)] == ["r"]
        assert [root.id for root in await other.unowned("they", 9, ["r"])] == ["r"]
        assert [root.id for root in await other.reserve("they", 9)] == ["r"]

    async def test_who_renews_in_time_keeps_the_run(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        await mine.add([a_request("r")])
        await mine.move([owning("r", "me")])
        await mine.move([lapse("r")])
        [found] = await other.unowned("they", 9)
        await mine.renew("me", ["r"])
        expects = {"run_owner": "me", "lease_until": found.lease_until}
        assert await other.move([Transition("r", "r", expects, {"run_owner": "they"})]) == [None]
        assert list(await other.unowned("they", 9)) == []

    async def test_who_lost_a_run_writes_nothing_any_more(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        await mine.add([a_request("r"), a_task("a", "r")])
        await mine.move([owning("r", "me")])
        await other.move([owning("r", "they", before="me")])
        fence = Transition("r", "r", {"run_owner": "me"}, {})
        with pytest.raises(MoveLostError):
            await mine.write(Change(moves=[a_move("a", "pending", "in_progress"), fence], is_strict=True))
        assert (await other.get(["a"]))["a"].status == TaskStatus.PENDING

    async def test_several_processes_number_the_events_of_a_tree_together(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        ids = [f"t{each}" for each in range(60)]
        await two[0].add(a_tree("r", *ids))
        moved = await asyncio.gather(
            *(
                two[(at + again) % 2].move([a_move(each, "pending", "in_progress")])
                for again in range(2)
                for at, each in enumerate(ids)
            )
        )
        assert sum(events is not None for [events] in moved) == len(ids)
        events = await two[1].events("r")
        assert [event.sequence for event in events] == list(range(1, 2 * len(ids) + 2))
        assert (await root_of(two[0])).last_event == len(events)

    async def test_processes_that_write_one_tree_at_the_same_moment_give_no_number_twice(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        await two[0].add([a_task("r")])
        rounds = 40
        for _ in range(rounds):
            await asyncio.gather(
                *(store.move([Transition("r", "r", {}, {}, (an_event("r", "r"),))]) for store in two)
            )
        numbers = [event.sequence for event in await two[0].events("r")]
        assert numbers == list(range(1, 2 * rounds + 2))

    async def test_leases_that_are_taken_and_given_back_together_do_not_mix(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        mine, _ = two
        await mine.add([a_request("r")])
        await mine.add([a_request("s")])
        await mine.move([owning("r", "me")])
        await mine.move([owning("r", None, before="me"), owning("s", "me")])
        assert (await root_of(mine, "r")).lease_until is None
        assert (await root_of(mine, "s")).lease_until is not None

    async def test_several_processes_that_move_many_trees_at_once_do_not_block_each_other(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        roots = [f"r{each}" for each in range(12)]
        for root_id in roots:
            await two[0].add([a_task(root_id)])
        batches = [roots, list(reversed(roots))] * 10
        async with asyncio.timeout(60):
            moved = await asyncio.gather(
                *(
                    two[at % 2].move(
                        [Transition(each, each, {}, {}, (an_event(each, each),)) for each in batch]
                    )
                    for at, batch in enumerate(batches)
                )
            )
        assert all(events is not None for each in moved for events in each)
        for root_id in roots:
            numbers = [event.sequence for event in await two[0].events(root_id)]
            assert numbers == list(range(1, len(batches) + 2))

    async def test_a_task_that_two_processes_add_is_added_once(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        outcomes = await asyncio.gather(
            *(two[each % 2].add(a_tree("r", "a")) for each in range(8)), return_exceptions=True
        )
        told = sorted("added" if each is None else type(each).__name__ for each in outcomes)
        assert told == ["IdTakenError"] * 7 + ["added"]

    async def test_what_another_process_does_is_heard_and_what_one_does_oneself_is_not(
        self, two: tuple[TaskStore, TaskStore]
    ) -> None:
        mine, other = two
        await mine.add(a_tree("ready"))
        heard, own = Heard(mine), Heard(other)
        # Once the first notice came, it is being listened.
        while not heard.notices or not own.notices:
            for store in two:
                store.announce(an_event("ready", "ready", EventType.LOG))
            await asyncio.sleep(0.05)
        await other.add([a_request("r"), a_task("a", "r")])
        await other.move([a_move("a", "pending", "in_progress")])
        await other.move([Transition("a", "r", {"status": "in_progress"}, {"cancel_requested_at": OLD})])
        sent = (NoticeKind.EVENTS, NoticeKind.REQUESTED, NoticeKind.CANCEL)
        wanted = {Notice(kind, "r") for kind in sent}
        await heard.until(lambda notices: wanted <= {each for each in notices if each.event is None})
        assert not [each for each in own.notices if each.root_id == "r"]

    async def test_a_live_event_arrives_as_it_was_sent(self, two: tuple[TaskStore, TaskStore]) -> None:
        mine, other = two
        heard = Heard(mine)
        event = an_event(
            "a", "r", EventType.PROGRESS, status=TaskStatus.IN_PROGRESS, progress=0.5, message="hälf\n'",
            data={"x": [1, None]}, sequence=7,
        )  # fmt: skip
        large = an_event("a", "r", EventType.LOG, message=token_hex(10_000))
        await other.get(["r"])
        async with asyncio.timeout(SOON):
            while not heard.notices:
                other.announce(large)
                other.announce(event)
                await asyncio.sleep(0.05)
        assert {each.event.to_dict()["message"] for each in heard.notices if each.event} == {"hälf\n'"}
        assert heard.notices[0] == Notice(NoticeKind.LIVE, "r", event)

    async def test_announcing_never_fails(self, store: TaskStore) -> None:
        store.announce(an_event("a", "r", EventType.LOG))
        store.listen(lambda _: None)
        store.announce(an_event("a", "r", EventType.LOG))
        await store.close()
        store.announce(an_event("a", "r", EventType.LOG))
