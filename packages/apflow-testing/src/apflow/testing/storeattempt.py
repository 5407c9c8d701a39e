"""The contract of a store: records of attempts, which are written and removed with their tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from apflow.core.errors import ConflictError
from apflow.core.model.attempt import AttemptOutcome, TaskAttempt
from apflow.core.store.base import Change, TaskStore
from apflow.testing.building import a_move, a_task, a_tree
from apflow.testing.storebase import StoreMaker

NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def an_attempt(task_id: str, number: int = 1) -> TaskAttempt:
    """Return the record of a failed attempt."""
    return TaskAttempt(
        task_id=task_id,
        number=number,
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=number),
        outcome=AttemptOutcome.FAILED,
        error='it\'s "wrong" \u2028',
        error_type="ValueError",
        traceback="Traceback\n  File 'a.py'\n\U0001f600 " + "x" * 20_000,
    )


async def fail(store: TaskStore, task_id: str, *numbers: int) -> None:
    """Store attempts with a move of their task, which is lost if the task has started."""
    move = a_move(task_id, "pending", "in_progress")
    move.attempts = tuple(an_attempt(task_id, number) for number in numbers)
    await store.move([move])


class StoreAttemptContract(StoreMaker):
    """Storing, reading and removing records of attempts.

    Store `Transition.attempts` in the transaction of the move, and only if the move wins; return them from
    `TaskStore.attempts`, and remove them with the task. A store that does not keep them leaves
    `capabilities.has_attempts` false.
    """

    @pytest.fixture(autouse=True)
    def _keeps_attempts(self, tmp_path: Path) -> None:
        if not self.make_store(tmp_path).capabilities.has_attempts:
            pytest.skip("the store keeps no attempts")

    async def test_attempts_come_back_in_order_as_they_were_stored(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a", "b"))
        await fail(store, "a", 3, 1, 2)
        bare = TaskAttempt(task_id="b", number=1, started_at=None, ended_at=None, outcome=None)
        move = a_move("b", "pending", "in_progress")
        move.attempts = (bare,)
        await store.move([move])
        assert await store.attempts("a") == [an_attempt("a", number) for number in (1, 2, 3)]
        assert await store.attempts("b") == [bare]
        assert await store.attempts("r") == await store.attempts("missing\0") == []

    async def test_a_number_may_have_several_records(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        await fail(store, "a", 1, 1)
        assert await store.attempts("a") == [an_attempt("a"), an_attempt("a")]

    async def test_a_lost_move_stores_no_attempts(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a", "b"))
        await fail(store, "a", 1)
        await fail(store, "a", 2)
        move = a_move("b", "pending", "in_progress")
        move.attempts = (an_attempt("b"),)
        with pytest.raises(ConflictError):
            await store.write(Change(moves=[move, a_move("a", "pending", "in_progress")], is_strict=True))
        assert await store.attempts("a") == [an_attempt("a")]
        assert await store.attempts("b") == []

    async def test_attempts_are_removed_with_their_task(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a", "b"))
        await fail(store, "a", 1, 2)
        await fail(store, "b", 1)
        await store.remove(["a"])
        assert await store.attempts("a") == []
        assert await store.attempts("b") == [an_attempt("b")]
        await store.add([a_task("a", "r")])
        assert await store.attempts("a") == []
        await store.remove(["a", "b", "r"])
        assert await store.attempts("b") == []

    async def test_attempts_of_a_task_that_joins_another_tree_stay_with_it(self, store: TaskStore) -> None:
        await store.add(a_tree("r", "a"))
        await store.add(a_tree("s"))
        await fail(store, "a", 1)
        await store.move([a_move("a", "in_progress", "pending", sets={"root_id": "s", "parent_id": "s"})])
        assert await store.attempts("a") == [an_attempt("a")]

    async def test_attempts_are_there_when_the_store_is_opened_again(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        if not store.capabilities.is_durable:
            pytest.skip("the store is not durable")
        await store.add(a_tree("r", "a"))
        await fail(store, "a", 1)
        await store.close()
        again = self.make_store(tmp_path)
        assert await again.attempts("a") == [an_attempt("a")]
        await again.close()
