"""Faults that are planted into a worker (`--import clusterkit.planted`), to see that the checks find them.

`FAULTS_PLANTED` names the one. Each does to the engine or the store what a wrong line there would do.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from apflow.core.engine import driver, leases
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.tree_run import TreeRun
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.plan import Plan
from apflow.core.planning.run_machine import RunMachine
from apflow.core.store.base import Change, TaskQuery, TaskStore, Transition
from apflow.storage.postgres.store import PostgresStore
from apflow.storage.postgres.writer import Writer

PAUSE = 0.3  # seconds between two steps, so that the gap is easy to hit


def fence_dropped() -> None:
    """A process that lost its tree continues, and its writes take effect."""

    def change(batch: ChangeSet) -> Change:
        moves = [
            Transition(m.task_id, m.root_id, status_only(m), m.sets, m.events) for m in batch.moves.values()
        ]
        return Change(moves=moves, is_strict=True)

    def status_only(move: Transition) -> dict[str, Any]:
        return {name: value for name, value in move.expects.items() if name == "status"}

    ChangeSet.change = change
    TreeRun.lose = lambda *_: None
    TreeRun._check_owner = lambda *_: None


def sweep_without_owner_check() -> None:
    """A process that sees a requested run takes it, even if it has an owner by then."""

    async def reserve(
        store: PostgresStore, owner: str, limit: int, without: Sequence[str] = ()
    ) -> list[Task]:
        asked = await store.find(TaskQuery(root_only=True, is_requested=True))
        return [root for root in asked if root.id not in without and root.run_owner != owner][:limit]

    async def is_owned_elsewhere(*_: Any) -> bool:
        return False

    PostgresStore.reserve = reserve
    driver.is_owned_elsewhere = is_owned_elsewhere


def lease_never_renewed() -> None:
    """The keeper believes that it renews, and writes nothing."""

    async def renew(store: TaskStore, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(root_ids, False)

    PostgresStore.renew = renew


def lease_never_checked() -> None:
    """A process that was away for longer than its leases continues its work."""
    leases.LeaseRenewer._take = lambda *_: None
    TreeRun.lose = lambda *_: None
    TreeRun._check_owner = lambda *_: None


def told_before_commit() -> None:
    """Events are published before they are durable."""
    write = TreeRun._write

    async def tell_first(run: TreeRun, batch: ChangeSet) -> None:
        events = [event for move in batch.moves.values() for event in move.events]
        for number, event in enumerate(events, start=run.state.last_number + 1):
            event.sequence = number
        run._bus.publish(*events)
        await asyncio.sleep(PAUSE)
        await write(run, batch)

    TreeRun._write = tell_first


def called_before_commit() -> None:
    """Bodies start before their start is durable."""
    write = TreeRun._write

    async def call_first(run: TreeRun, batch: ChangeSet) -> None:
        for instruction in batch.then:
            run._do(instruction)
        batch.then.clear()
        run._group.create_task(_start(run), name="planted")
        await asyncio.sleep(PAUSE)
        await write(run, batch)

    async def _start(run: TreeRun) -> None:
        run._carry_out()

    TreeRun._write = call_first


def heartbeat_revives() -> None:
    """The heartbeat of a tree sets what its owner had started to in_progress, ended or not."""
    renew = PostgresStore.renew

    async def revive(store: PostgresStore, owner: str, root_ids: Sequence[str]) -> dict[str, bool]:
        import asyncpg

        connection = await asyncpg.connect(os.environ["APFLOW_DATABASE_URL"])
        await connection.execute(
            "UPDATE apflow_tasks SET status = 'in_progress' WHERE owner = $1 AND root_id = ANY($2)",
            owner,
            list(root_ids),
        )
        await connection.close()
        return await renew(store, owner, root_ids)

    PostgresStore.renew = revive


def completed_twice() -> None:
    """A completion is written, and written again."""
    write = PostgresStore.write

    async def twice(store: PostgresStore, change: Change) -> Any:
        moved = await write(store, change)
        again = [m for m in change.moves if m.sets.get("status") is TaskStatus.COMPLETED]
        if again:
            await write(
                store, Change(moves=[Transition(m.task_id, m.root_id, {}, {}, m.events) for m in again])
            )
        return moved

    PostgresStore.write = twice


def once_again() -> None:
    """What may run only once is run again after a crash."""
    RunContext.effect = lambda *_, **__: "idempotent"


def order_ignored() -> None:
    """Tasks start whatever they need."""
    init = Plan.__init__

    def forgetful(plan: Plan, tasks: Sequence[Task], *more: Any, **named: Any) -> None:
        plain = [task.copy() for task in tasks]
        for task in plain:
            task.dependencies = []
        init(plan, plain, *more, **named)

    Plan.__init__ = forgetful


def acknowledged_before_commit() -> None:
    """The request of a run is acknowledged when it is sent."""
    write = PostgresStore.write

    async def send(store: PostgresStore, change: Change) -> Any:
        if change.add:
            return await write(store, change)

        def later() -> None:
            time.sleep(PAUSE)
            asyncio.run(write(store, change))

        threading.Thread(target=later, daemon=True).start()
        return [() for _ in change.moves]

    PostgresStore.write = send


def commit_taken_for_done() -> None:
    """A COMMIT without an answer is taken for done."""

    async def surely(_: Writer, __: int) -> bool:
        return True

    Writer._is_committed = surely


def drain_forgets() -> None:
    """A drain releases the tree, without writing back the tasks that it has interrupted."""

    def release(machine: RunMachine[Any], batch: ChangeSet) -> None:
        batch.put(machine.state.by_id[machine.state.root_id], {}, {"run_owner": None})

    RunMachine.release = release


PLANTED: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        fence_dropped,
        sweep_without_owner_check,
        lease_never_renewed,
        lease_never_checked,
        told_before_commit,
        called_before_commit,
        heartbeat_revives,
        completed_twice,
        once_again,
        order_ignored,
        acknowledged_before_commit,
        commit_taken_for_done,
        drain_forgets,
    )
}

if name := os.environ.get("FAULTS_PLANTED"):
    PLANTED[name]()
