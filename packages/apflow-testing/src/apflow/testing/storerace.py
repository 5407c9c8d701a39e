"""The contract of a store: of two writers of one task, one succeeds and the other gets a conflict."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apflow.core.model.status import TRANSITIONS, TaskStatus
from apflow.core.store.base import Change, TaskStore, TransitionResult
from apflow.core.store.memory import MemoryStore
from apflow.testing.building import a_move, a_task, a_tree
from apflow.testing.storebase import StoreMaker

# A step of a writer: which task, from which state, to which of those that the table allows.
steps = st.sampled_from([(old, new) for old in TaskStatus for new in TRANSITIONS[old]]).flatmap(
    lambda move: st.tuples(st.sampled_from("abc"), st.just(move))
)
# A change: some steps, at most one per task; whether it is strict.
changes = st.tuples(st.lists(steps, min_size=1, unique_by=lambda step: step[0]), st.booleans())
Step = tuple[str, tuple[TaskStatus, TaskStatus]]
Writes = list[tuple[list[Step], bool]]


def as_change(steps: list[Step], is_strict: bool) -> Change:
    """Return the change that these steps are."""
    moves = [a_move(task_id, old, new) for task_id, (old, new) in steps]
    return Change(moves=moves, is_strict=is_strict)


def expected(state: dict[str, TaskStatus], steps: list[Step], is_strict: bool) -> list[bool]:
    """Return which steps win, and apply them to `state`: what a store does, in its plainest form."""
    wins = [state[task_id] == old for task_id, (old, _) in steps]
    if is_strict and not all(wins):
        return [False] * len(wins)
    for won, (task_id, (_, new)) in zip(wins, steps, strict=True):
        if won:
            state[task_id] = new
    return wins


# A change of any kind, of few tasks, so that they meet: what is added, what is moved, what is removed.
any_move = st.tuples(
    steps,
    st.dictionaries(st.sampled_from(["owner", "priority", "error", "result"]), st.sampled_from([None, 1, 2])),
    st.dictionaries(st.sampled_from(["owner", "error", "result"]), st.sampled_from([None, 1, "x"])),
)
ids = st.lists(st.sampled_from("abcr"), max_size=2, unique=True)
any_change = st.tuples(
    ids, st.lists(any_move, max_size=3, unique_by=lambda move: move[0][0]), ids, st.booleans()
)
AnyMove = tuple[Step, dict[str, object], dict[str, object]]
AnyChange = tuple[list[str], list[AnyMove], list[str], bool]


def as_any_change(added: list[str], moves: list[AnyMove], removed: list[str], is_strict: bool) -> Change:
    """Return the change that these are. A text column never gets a number."""
    texts = {"owner", "error"}

    def fit(fields: dict[str, object]) -> dict[str, object]:
        return {name: f"{value}" if name in texts and value else value for name, value in fields.items()}

    return Change(
        add=[a_task(each, "r") for each in added],
        moves=[a_move(task, old, new, expects=fit(e), sets=fit(s)) for (task, (old, new)), e, s in moves],
        remove=removed,
        is_strict=is_strict,
    )


class StoreRaceContract(StoreMaker):
    """Many writers at once.

    Each `TaskStore.write` is one transaction that other writers see as a whole or not at all: check the
    `expects` of all moves and write within the same lock or serializable transaction.
    """

    async def test_of_many_that_start_one_task_one_wins(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        moved = await asyncio.gather(
            *(
                store.move([a_move("a", "pending", "in_progress", sets={"owner": f"writer {each}"})])
                for each in range(50)
            )
        )
        winners = [each for each, [events] in enumerate(moved) if events is not None]
        assert len(winners) == 1
        assert (await store.get(["a"]))["a"].owner == f"writer {winners[0]}"
        assert len(await store.events("r", after=2)) == 1

    async def test_changes_that_are_written_together_do_not_disturb_each_other(
        self, store: TaskStore
    ) -> None:
        ids = [f"t{each}" for each in range(40)]
        await store.add(a_tree("r", *ids))
        lost = Change(moves=[a_move("t0", "failed", "pending")], is_strict=True)
        outcomes = await asyncio.gather(
            *(store.move([a_move(each, "pending", "in_progress")]) for each in ids),
            store.write(lost),
            store.add(a_tree("other", "x")),
            store.add(a_tree("other", "y")),
            store.remove(["t39"]),
            return_exceptions=True,
        )
        refused = [type(each).__name__ for each in outcomes if isinstance(each, BaseException)]
        assert refused == ["MoveLostError", "IdTakenError"]
        assert [task.status for task in (await store.tree("r"))[1:]] == ["in_progress"] * 39
        assert [event.sequence for event in await store.events("r")] == list(range(1, 82))

    async def test_a_chain_of_moves_of_one_task_may_ride_in_one_batch(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        moved = await asyncio.gather(
            store.move([a_move("a", "pending", "in_progress", sets={"attempts": 1})]),
            store.move(
                [a_move("a", "in_progress", "completed", sets={"result": 1}, expects={"attempts": 1})]
            ),
            store.move([a_move("a", "completed", "pending", sets={"result": None, "attempts": 0})]),
            store.move([a_move("a", "completed", "pending")]),
        )
        assert [events is not None for [events] in moved] == [True, True, True, False]
        task = (await store.get(["a"]))["a"]
        assert (task.status, task.attempts, task.result) == ("pending", 0, None)

    async def test_the_number_of_the_last_event_is_read_as_of_the_moment_of_the_rows(
        self, store: TaskStore
    ) -> None:
        await store.add([a_task("r")])
        await store.move([a_move("r", "pending", "in_progress")])
        seen: list[tuple[str, int, int]] = []

        async def write() -> None:
            for attempts in range(1, 101):
                await store.move([a_move("r", "in_progress", "in_progress", sets={"attempts": attempts})])

        async def read(writing: asyncio.Task[None]) -> None:
            while not writing.done():
                root = (await store.get(["r"]))["r"]
                seen.append(("get", root.attempts, root.last_event))
                [root] = await store.tree("r")
                seen.append(("tree", root.attempts, root.last_event))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write())
            group.create_task(read(writing))
            group.create_task(read(writing))
        assert [each for each in seen if each[2] != each[1] + 2] == []

    # differing_executors: one test, inherited by the classes of several stores, which share no examples.
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    )
    @given(first=st.lists(changes, max_size=6), second=st.lists(changes, max_size=6), together=st.booleans())
    def test_two_writers_in_any_order_keep_to_the_table_of_moves(
        self, first: Writes, second: Writes, together: bool
    ) -> None:
        with TemporaryDirectory() as folder:
            asyncio.run(self._race(Path(folder), first, second, together=together))

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    )
    @given(batches=st.lists(st.lists(any_change, min_size=1, max_size=5), max_size=5))
    def test_it_does_what_the_store_in_memory_does(self, batches: list[list[AnyChange]]) -> None:
        with TemporaryDirectory() as folder:
            asyncio.run(self._follow(Path(folder), batches))

    async def _follow(self, folder: Path, batches: list[list[AnyChange]]) -> None:
        """Write the same, here a batch at once, there one by one."""
        store, model = self.make_store(folder), MemoryStore()
        for each in (store, model):
            await each.add(a_tree("r", "a", "b"))
        for batch in batches:
            expected_outcomes: list[TransitionResult | BaseException] = []
            whole: list[AnyChange] = []
            for added, moves, removed, is_strict in batch:
                # A tree has a root: it comes before the others and takes them with it.
                needs_root = added and not await model.get(["r"])
                change = (
                    ["r", *(each for each in added if each != "r")] if needs_root else added,
                    moves,
                    ["a", "b", "c", "r"] if "r" in removed else removed,
                    is_strict,
                )
                whole.append(change)
                expected_outcomes += await asyncio.gather(
                    model.write(as_any_change(*change)), return_exceptions=True
                )
            outcomes = await asyncio.gather(
                *(store.write(as_any_change(*change)) for change in whole), return_exceptions=True
            )
            assert _told(list(outcomes)) == _told(expected_outcomes)
            assert await _content(store) == await _content(model)
        await store.close()

    async def _race(self, folder: Path, first: Writes, second: Writes, *, together: bool) -> None:
        """Write in turns, all at once or one after the other, and compare with the plain model."""
        store = self.make_store(folder)
        await store.add(a_tree("r", "a", "b", "c"))
        turns = [each for pair in zip(first, second, strict=False) for each in pair]
        turns += first[len(second) :] + second[len(first) :]
        writes = [store.write(as_change(*turn)) for turn in turns]
        outcomes: list[TransitionResult | BaseException] = []
        if together:
            outcomes = list(await asyncio.gather(*writes, return_exceptions=True))
        else:
            for write in writes:
                outcomes += await asyncio.gather(write, return_exceptions=True)
        await _compare(store, turns, outcomes)
        await store.close()


async def _content(store: TaskStore) -> list[object]:
    """Return all that can be read from a store, less what differs by the moment of writing."""
    shown: list[object] = []
    for task in await store.tree("r"):
        fields = {**task.to_dict(), "position": task.position, "owner": task.owner, "last": task.last_event}
        shown.append(
            {name: value for name, value in fields.items() if name not in ("created_at", "updated_at")}
        )
    events = await store.events("r")
    return [*shown, *((event.sequence, event.type, event.task_id, event.status) for event in events)]


def _told(outcomes: list[TransitionResult | BaseException]) -> list[object]:
    return [
        type(outcome).__name__
        if isinstance(outcome, BaseException)
        else [[event.sequence for event in events] if events is not None else None for events in outcome]
        for outcome in outcomes
    ]


async def _compare(store: TaskStore, turns: Writes, outcomes: list[TransitionResult | BaseException]) -> None:
    state = dict.fromkeys("rabc", TaskStatus.PENDING)
    number_of_events = len(state)
    for turn, outcome in zip(turns, outcomes, strict=True):
        wins = expected(state, *turn)
        if isinstance(outcome, BaseException):
            assert type(outcome).__name__ == "MoveLostError"
            assert not any(wins)
        else:
            assert [events is not None for events in outcome] == wins
        number_of_events += sum(wins)
    assert {task.id: task.status for task in await store.tree("r")} == state
    events = await store.events("r")
    assert [event.sequence for event in events] == list(range(1, number_of_events + 1))
    last = {event.task_id: event.status for event in events}
    assert last == state
