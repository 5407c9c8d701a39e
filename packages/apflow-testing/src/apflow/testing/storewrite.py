"""The contract of a store: what is written is there, whole, and as it was given."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from apflow.core.errors import ConflictError, IdTakenError, InvalidInputError, StoreError
from apflow.core.model.event import EventType
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import PUBLIC_FIELDS, Task
from apflow.core.store.base import Change, TaskQuery, TaskStore, Transition
from apflow.testing.building import a_move, a_task, a_tree, an_event
from apflow.testing.storebase import StoreMaker

NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def full_task() -> Task:
    """Return a task with every field that a caller may fill."""
    return Task(
        id="t", name="näme \u2028 \U0001f600", root_id="r", parent_id="r", user_id="u",
        status=TaskStatus.COMPLETED, priority=0,
        dependencies=[{"id": "a", "required": True}, {"id": "b", "required": False}],
        inputs={"text": "a\x1fb'\"\\", "list": [1, 2.5, None, True, {"": []}], "large": 2**63 - 1},
        params={"executor_id": "x"}, schemas={"method": "x"}, policy={"timeout": 1.5},
        result=[{"a": None}], error="it's \"wrong\"", progress=0.5, has_children=True, attempts=2,
        created_at=NOON, started_at=NOON + timedelta(seconds=1), updated_at=NOON + timedelta(seconds=2),
        completed_at=NOON + timedelta(seconds=3), original_task_id="o", has_copy=True, key="a/2", position=7,
        executor="x", generation=3, interruptions=1, earlier_attempts=4, not_before=NOON,
        cancel_requested_at=NOON, owner="me",
        run_requested_at=NOON, run_scope=["t"], run_owner="me", lease_until=NOON, run_ended_at=NOON,
        written_by=[{"user": "ann", "roles": ["admin"]}], spawned_by="p",
        child_trees=[{"id": "c", "key": "k", "generation": 0, "attempt": 1}],
        label="nightly \U0001f600 import", tags=["nightly", "größe:xl"],
        cached_from="f", cache_key="0f", run_ignores_cache=True,
    )  # fmt: skip


class StoreWriteContract(StoreMaker):
    """Adding, moving and removing.

    The rules are in `TaskStore.write`, `Change` and `Transition` of `apflow.core.store.base`; `MemoryStore`
    follows them in plain Python, and `apflow.core.store.rules` has what all stores share.
    """

    async def test_a_task_comes_back_as_it_was_added(self, store: TaskStore) -> None:
        task = full_task()
        await store.add([task])
        found = (await store.get(["t"]))["t"]
        engine_fields = ["position", "executor", "generation", "interruptions", "earlier_attempts",
                         "not_before", "owner",
                         "cancel_requested_at", "run_requested_at", "run_scope", "run_owner", "lease_until",
                         "run_ended_at", "written_by", "cache_key", "run_ignores_cache"]  # fmt: skip
        for name in [*PUBLIC_FIELDS, *engine_fields]:
            assert getattr(found, name) == getattr(task, name), name
        assert isinstance(found.status, TaskStatus)
        assert found.created_at is not None
        assert found.created_at.utcoffset() == timedelta(0)

    async def test_a_bare_task_gets_its_times_and_its_position(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a", "b"))
        await store.add([a_task("c", "r")])
        tree = await store.tree("r")
        assert [(task.id, task.position) for task in tree] == [("r", 0), ("a", 1), ("b", 2), ("c", 3)]
        assert all(task.created_at and task.updated_at for task in tree)
        assert (tree[1].inputs, tree[1].dependencies, tree[1].result) == ({}, [], None)

    async def test_positions_that_were_given_are_kept_and_counted_from(self, store: TaskStore) -> None:
        await store.add([a_task("r", position=5)])
        await store.add([a_task("a", "r")])
        assert [task.position for task in await store.tree("r")] == [5, 6]

    async def test_times_in_other_zones_are_the_same_moments(self, store: TaskStore) -> None:
        await store.add([a_task("r", created_at=NOON.astimezone(timezone(timedelta(hours=5))))])
        assert (await store.get(["r"]))["r"].created_at == NOON

    async def test_nobody_shares_an_object_with_the_store(self, store: TaskStore) -> None:
        task = a_task("r", inputs={"list": [1]})
        await store.add([task])
        task.inputs["list"].append(2)
        (await store.get(["r"]))["r"].inputs["list"].append(3)
        assert (await store.get(["r"]))["r"].inputs == {"list": [1]}

    async def test_a_parent_learns_of_its_children_when_they_are_added(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        assert not (await store.get(["r"]))["r"].has_children
        await store.add([a_task("a", "r"), a_task("b", "r", parent_id="a")])
        tree = {task.id: task.has_children for task in await store.tree("r")}
        assert tree == {"r": True, "a": True, "b": False}

    async def test_a_tree_can_become_part_of_another_one(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        await store.add(a_tree("s", "b"))

        def joins(task_id: str, parent_id: str, **expects: object) -> Transition:
            event = an_event(task_id, "r", EventType.TASK_CREATED)
            return Transition(task_id, "s", expects, {"root_id": "r", "parent_id": parent_id}, (event,))

        parent = Transition("a", "r", {}, {"has_children": True})
        moves = [
            Transition("r", "r", {}, {}),
            parent,
            joins("s", "a", run_requested_at=None),
            joins("b", "s"),
        ]
        await store.write(Change(moves=moves, is_strict=True))
        tree = [(task.id, task.parent_id, task.position) for task in await store.tree("r")]
        assert tree == [("r", None, 0), ("a", "r", 1), ("s", "a", 2), ("b", "s", 3)]
        assert await store.tree("s") == []
        assert await store.events("s") == []
        assert [(event.task_id, event.sequence) for event in await store.events("r")] == [
            ("r", 1), ("a", 2), ("s", 3), ("b", 4),
        ]  # fmt: skip
        await store.add([a_task("c", "r", parent_id="b")])
        await store.move([a_move("s", "pending", "in_progress")])
        assert [task.id for task in await store.find(TaskQuery(root_only=True))] == ["r"]
        found = await store.tree("r")
        assert [(task.id, task.position, task.status) for task in found[2:]] == [
            ("s", 2, "in_progress"), ("b", 3, "pending"), ("c", 4, "pending"),
        ]  # fmt: skip

    async def test_adding_stores_one_event_per_task(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        events = await store.events("r")
        assert [(event.type, event.task_id, event.sequence) for event in events] == [
            (EventType.TASK_CREATED, "r", 1),
            (EventType.TASK_CREATED, "a", 2),
        ]
        assert (await store.get(["r"]))["r"].last_event == 2

    async def test_a_taken_id_refuses_the_whole_addition(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        with pytest.raises(IdTakenError) as caught:
            await store.add([a_task("new"), a_task("r")])
        assert caught.value.task_ids == ["r"]
        with pytest.raises(IdTakenError):
            await store.add([a_task("twice"), a_task("twice")])
        assert await store.count(TaskQuery()) == {TaskStatus.PENDING: 1}
        assert len(await store.events("r")) == 1

    async def test_a_move_writes_its_fields_and_numbers_its_events(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        sets = {"owner": "me", "started_at": NOON, "attempts": 1, "result": {"x": [None]}, "run_scope": ["a"]}
        [events] = await store.move([a_move("a", "pending", "in_progress", sets=sets)])
        assert events is not None
        assert [event.sequence for event in events] == [3]
        task = (await store.get(["a"]))["a"]
        assert (task.status, task.owner, task.attempts) == ("in_progress", "me", 1)
        assert (task.started_at, task.result, task.run_scope) == (NOON, {"x": [None]}, ["a"])
        assert [event.type for event in await store.events("r", after=2)] == [EventType.TASK_STARTED]

    async def test_many_moves_write_what_each_one_says(self, store: TaskStore) -> None:
        ids = [f"t{each}" for each in range(300)]
        await store.add(a_tree("r", *ids))
        values = [1, True, 1.0, None, "1", [], {}, [1], {"a": True}, {"a": 1}]
        results = {task_id: values[at % len(values)] for at, task_id in enumerate(ids)}
        moved = await store.move(
            [a_move(each, "pending", "in_progress", sets={"result": results[each]}) for each in ids]
        )
        assert all(events is not None for events in moved)
        for task in (await store.tree("r"))[1:]:
            assert (task.status, repr(task.result)) == ("in_progress", repr(results[task.id]))
        assert [event.sequence for event in await store.events("r")] == list(range(1, 602))

    async def test_an_event_comes_back_as_it_was_stored(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        event = an_event(
            "r", "r", EventType.RETRYING, status=TaskStatus.IN_PROGRESS, progress=0.25, message="wait'",
            data={"wait": 1.5}, result=[None], error="e",
        )  # fmt: skip
        await store.move([Transition("r", "r", {"status": "pending"}, {}, (event,))])
        [stored] = await store.events("r", after=1)
        assert stored.to_dict() == event.to_dict()
        assert stored.sequence == 2

    async def test_events_are_paged_by_number(self, store: TaskStore) -> None:
        await store.add(a_tree("r", *(f"t{each}" for each in range(2500))))
        assert [event.sequence for event in await store.events("r", after=998, limit=4)] == [
            999,
            1000,
            1001,
            1002,
        ]
        assert [event.sequence for event in await store.events("r", after=2499)] == [2500, 2501]
        assert await store.events("r", after=2501) == []
        assert await store.events("nobody") == []

    async def test_a_move_that_only_checks_writes_nothing(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        before = await store.get(["r"])
        assert await store.move([Transition("r", "r", {"status": "pending"}, {})]) == [()]
        assert (await store.get(["r"]))["r"].to_dict() == before["r"].to_dict()

    @pytest.mark.parametrize(
        "expects",
        [
            {"status": "failed"},
            {"status": "pending", "owner": "somebody"},
            {"status": "pending", "attempts": 1},
            {"status": "pending", "cancel_requested_at": NOON},
            {"status": "pending", "priority": 1},
            {"status": "pending", "name": None},
        ],
    )
    async def test_a_move_loses_when_a_field_is_not_what_it_expects(
        self, store: TaskStore, expects: dict[str, object]
    ) -> None:
        await store.add([a_task("r")])
        move = Transition("r", "r", expects, {"error": "lost"}, (an_event("r", "r"),))
        assert await store.move([move]) == [None]
        assert (await store.get(["r"]))["r"].error is None
        assert len(await store.events("r")) == 1

    async def test_a_move_wins_on_any_column_that_is_as_expected(self, store: TaskStore) -> None:
        await store.add([full_task()])
        expects = {"status": "completed", "cancel_requested_at": NOON, "name": "näme \u2028 \U0001f600",
                   "priority": 0, "lease_until": NOON, "has_copy": True, "run_scope": ["t"]}  # fmt: skip
        assert await store.move([Transition("t", "r", expects, {"priority": 1, "lease_until": None})]) == [()]
        again = {"priority": 1, "lease_until": None}
        assert await store.move([Transition("t", "r", again, {"error": None})]) == [()]

    async def test_a_move_of_a_task_that_is_not_there_loses(self, store: TaskStore) -> None:
        assert await store.move([a_move("ghost", "pending", "in_progress")]) == [None]

    async def test_a_strict_change_is_refused_whole(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a", "b"))
        moves = [a_move("a", "pending", "failed"), a_move("b", "failed", "pending")]
        with pytest.raises(ConflictError):
            await store.write(Change(add=[a_task("new")], moves=moves, remove=["r"], is_strict=True))
        assert {task.id: task.status for task in await store.tree("r")} == dict.fromkeys("rab", "pending")
        assert await store.get(["new"]) == {}
        assert len(await store.events("r")) == 3

    async def test_adding_and_removing_provided_that_a_move_wins(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        check = Transition("r", "r", {"status": "pending"}, {})
        await store.add([a_task("a", "r")], provided=[check])
        await store.remove(["a"], provided=[check])
        assert [task.id for task in await store.tree("r")] == ["r"]
        lost = Transition("r", "r", {"status": "failed"}, {})
        with pytest.raises(ConflictError):
            await store.add([a_task("a", "r")], provided=[lost])
        with pytest.raises(ConflictError):
            await store.remove(["r"], provided=[lost])
        assert [task.id for task in await store.tree("r")] == ["r"]

    async def test_a_change_may_move_what_it_adds(self, store: TaskStore) -> None:
        move = Transition(
            "r", "r", {"run_requested_at": None, "name": "r"}, {"run_requested_at": NOON, "error": "x"}
        )
        assert await store.write(Change(add=[a_task("r")], moves=[move])) == [()]
        task = (await store.get(["r"]))["r"]
        assert (task.run_requested_at, task.error) == (NOON, "x")

    async def test_one_change_adds_tasks_and_starts_them_with_their_parent(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "g"))
        added = [a_task("g0", "r", parent_id="g", position=2), a_task("g1", "r", parent_id="g", position=3)]
        moves = [
            Transition("r", "r", {"run_requested_at": None}, {}),
            a_move("g", "pending", "in_progress"),
            a_move("g0", "pending", "in_progress"),
        ]
        numbered = await store.write(Change(add=added, moves=moves, is_strict=True))
        assert [[event.sequence for event in events or ()] for events in numbered] == [[], [5], [6]]
        tree = {
            task.id: (str(task.status), task.position, task.has_children) for task in await store.tree("r")
        }
        assert tree == {
            "r": ("pending", 0, True),
            "g": ("in_progress", 1, True),
            "g0": ("in_progress", 2, False),
            "g1": ("pending", 3, False),
        }
        events = [(event.sequence, event.task_id) for event in await store.events("r", 2)]
        assert events == [(3, "g0"), (4, "g1"), (5, "g"), (6, "g0")]

    async def test_one_change_resets_a_task_and_removes_what_is_in_it(self, store: TaskStore) -> None:
        ended = a_task("g", "r", status=TaskStatus.FAILED, has_children=True)
        await store.add([a_task("r"), ended, a_task("g0", "r", parent_id="g")])
        reset = a_move("g", "failed", "pending", sets={"has_children": False, "generation": 1})
        await store.write(Change(moves=[reset], remove=["g0"], is_strict=True))
        assert [(t.id, t.has_children) for t in await store.tree("r")] == [("r", True), ("g", False)]
        await store.write(Change(add=[a_task("g0", "r", parent_id="g")], is_strict=True))
        assert [(t.id, t.has_children) for t in await store.tree("r")][1:] == [("g", True), ("g0", False)]

    async def test_events_go_with_their_root_and_ids_are_free_again(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        await store.remove(["a"])
        assert len(await store.events("r")) == 2
        await store.remove(["r", "ghost"])
        assert await store.events("r") == []
        await asyncio.gather(store.add(a_tree("r", "a")), store.remove(["r", "a"]), store.add([a_task("r")]))
        assert [(task.id, task.position) for task in await store.tree("r")] == [("r", 0)]
        assert [event.sequence for event in await store.events("r")] == [1]

    async def test_an_unknown_field_is_refused_by_name(self, store: TaskStore) -> None:
        await store.add([a_task("r")])
        for move in (Transition("r", "r", {"colour": 1}, {}), Transition("r", "r", {}, {"colour": 1})):
            with pytest.raises(InvalidInputError, match="colour"):
                await store.move([move])
        with pytest.raises(InvalidInputError, match="colour"):
            await store.add([a_task("s", extra={"colour": 1})])

    async def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        await store.add([a_task("r")])
        await store.close()
        await store.close()
        for operation in (store.get(["r"]), store.add([a_task("s")])):
            with pytest.raises(StoreError, match="closed"):
                await operation

    def test_a_store_is_bound_to_no_event_loop(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        asyncio.run(store.add([a_task("r")]))
        assert list(asyncio.run(store.get(["r"]))) == ["r"]
        asyncio.run(store.close())

    async def test_what_was_written_is_there_when_the_store_is_opened_again(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        if not store.capabilities.is_durable:
            pytest.skip("the store is not durable")
        await store.add(a_tree("r", "a"))
        await store.move([a_move("a", "pending", "in_progress", sets={"owner": "me"})])
        await store.close()
        again = self.make_store(tmp_path)
        assert (await again.get(["r"]))["r"].last_event == 3
        expects = {"owner": "me", "attempts": 0}
        [events] = await again.move([a_move("a", "in_progress", "completed", expects=expects)])
        assert events is not None
        assert events[0].sequence == 4
        await again.add([a_task("b", "r")])
        assert [task.position for task in await again.tree("r")] == [0, 1, 2]
        await again.close()
