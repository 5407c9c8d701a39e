from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    TaskTreeNode,
    executor_register,
    get_registry,
)
from apflow.core.errors import OwnerLostError
from apflow.core.settings import reset_settings
from apflow.core.store.base import Change, Transition, TransitionResult


class Shared(MemoryStore):
    """A store of several processes, which reports on request that all runs are lost."""

    capabilities = replace(MemoryStore.capabilities, is_shared=True)

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._was_asked = asyncio.Event()
        self._has_others = False

    async def renew(self, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        if not self._has_others:
            return dict.fromkeys(root_ids, False)
        self._loop.call_soon_threadsafe(self._was_asked.set)
        return {}

    async def give_away(self, root_id: str) -> None:
        """Make another process the owner of a tree."""
        await super().write(Change(moves=[Transition(root_id, root_id, {}, {"run_owner": "another"})]))

    async def lose_all(self) -> None:
        """Wait until the keeper of leases has asked, and has drawn its conclusion."""
        self._has_others = True
        async with asyncio.timeout(30):
            await self._was_asked.wait()
        await asyncio.sleep(0.1)


class LosesAtTheEnd(Shared):
    """The end of a run is stored, and the answer to that is late."""

    async def write(self, change: Change) -> TransitionResult:
        written = await super().write(change)
        if any(move.sets.get("run_ended_at") is not None for move in change.moves):
            await self.lose_all()
        return written


class Meets(BaseTask):
    """Loses its tree while it works, where the test says so."""

    id = "meets"
    store: Shared | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if Meets.store is not None:
            await Meets.store.lose_all()
            await asyncio.sleep(30)  # it is ended before
        return {}


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_LEASE_SECONDS", "1")
    reset_settings()
    executor_register(Meets, override=True)
    yield
    get_registry().unregister("meets")
    Meets.store = None
    reset_settings()


async def a_tree(db: MemoryStore) -> TaskTreeNode:
    return await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": "meets"}])


async def test_a_run_whose_end_is_stored_is_not_lost_to_another_process(caplog: pytest.LogCaptureFixture):
    db = LosesAtTheEnd()
    with caplog.at_level(logging.ERROR):
        finished = await TaskManager(db).distribute_task_tree(await a_tree(db))
    assert (finished["status"], caplog.messages) == ("completed", [])


async def test_a_run_that_belongs_to_another_process_ends_here(caplog: pytest.LogCaptureFixture):
    db = Meets.store = Shared()
    with caplog.at_level(logging.ERROR), pytest.raises(OwnerLostError):
        await TaskManager(db).distribute_task_tree(await a_tree(db))
    assert caplog.messages == ["Tree r belongs to another process: its work ends here."]


class Holds(BaseTask):
    """Holds the interpreter for most of a lease, during which another process takes the tree."""

    id = "holds"
    effect = "idempotent"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if Meets.store is not None:
            await Meets.store.give_away("r")
        ctypes.PyDLL(None).usleep(800_000)  # unlike CDLL, PyDLL does not release the GIL
        return {"done": True}


async def hold(caplog: pytest.LogCaptureFixture, **policy: Any) -> tuple[Shared, list[str]]:
    executor_register(Holds, override=True)
    db = Meets.store = Shared()
    tree = await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": "holds", "policy": policy}])
    try:
        with caplog.at_level(logging.WARNING), pytest.raises(OwnerLostError):
            await TaskManager(db).distribute_task_tree(tree)
    finally:
        get_registry().unregister("holds")
    return db, caplog.messages


async def test_the_late_result_of_code_that_held_the_interpreter_is_stored(caplog: pytest.LogCaptureFixture):
    db, messages = await hold(caplog)
    stored = (await db.get(["r"]))["r"]
    assert (stored.status, stored.result, stored.attempts) == ("completed", {"done": True}, 1)
    assert any("the interpreter was held by task r ('holds', holds)" in each for each in messages)
    assert "The late result of task r ('holds', tree r) is stored: no other attempt had ended." in messages


async def test_a_late_result_of_a_task_with_an_effect_that_happens_once_is_dropped(
    caplog: pytest.LogCaptureFixture,
):
    db, messages = await hold(caplog, effect="once")
    assert (await db.get(["r"]))["r"].status == "in_progress"  # for the process that has taken the tree
    assert not any("late result" in each for each in messages)
