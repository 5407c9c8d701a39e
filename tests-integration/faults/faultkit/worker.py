"""The program that is killed (life 1), and the one that finds what it left (life 2, and on)."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apflow.core import TaskCreator, TaskExecutor, TaskManager, create_session
from apflow.core.engine.recovery import recover
from apflow.core.model.event import LIVE, EventType, TaskEvent
from apflow.core.model.task import Task, to_json
from apflow.core.store.base import TaskStore
from apflow.testing.torture.history import History
from faultkit import executors, trees
from faultkit.points import Stop, StoppingStore


@dataclass
class Work:
    """The job of a worker, passed as JSON in its only argument."""

    folder: str
    life: int
    pipe: int = -1
    point: str | None = None  # where to stop; None: nowhere
    size: int = 0  # tasks of the large tree; 0: the small tree
    fan: int = 0  # items of the list of the tree with `for_each`; 0: another tree
    cancel_after: int | None = None  # told events after which the victim is cancelled

    @property
    def path(self) -> Path:
        return Path(self.folder)

    def array(self) -> trees.Array:
        if self.fan:
            return trees.fanned(self.fan)
        if self.size:
            return trees.large(self.size)
        return trees.small("hold" if self.point == "cancel_requested" else "note")

    def victim(self) -> str:
        return trees.VICTIM if self.size else trees.TARGET


class First:
    """The first life: creates the tree, runs it, and writes down all events."""

    def __init__(self, work: Work, store: TaskStore, history: History, stop: Stop) -> None:
        self.work, self.history, self.stop = work, history, stop
        self.store = StoppingStore(store, stop)
        self.manager = TaskManager(self.store)

    async def live(self) -> None:
        tree = await TaskCreator(self.store).create_task_tree_from_array(self.work.array())
        self.history.append("created", count=len(self.work.array()))
        self.stop.at("created")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch(group), name="worker:watch")
            await asyncio.sleep(0)
            self.stop.say("running")
            await self.manager.distribute_task_tree(tree)
            self.history.append("returned", status=tree["status"])

    async def watch(self, group: asyncio.TaskGroup) -> None:
        told = 0
        created = len(self.work.array())  # their events, which the return of the creation acknowledged
        async for event in self.manager.subscribe(trees.ROOT, after=created):
            if event.type in LIVE:
                continue
            told += 1
            self.history.append("told", sequence=event.sequence, type=event.type, task_id=event.task_id)
            is_started = event.type == EventType.TASK_STARTED and event.task_id == trees.TARGET
            if told == self.work.cancel_after or (is_started and self.stop.point == "cancel_requested"):
                group.create_task(self.cancel(), name="worker:cancel")

    async def cancel(self) -> None:
        answer = await self.manager.cancel_task(self.work.victim())
        self.history.append("cancel_answered", task_id=self.work.victim(), status=answer["status"])


async def next_life(work: Work, store: TaskStore, stop: Stop) -> None:
    """Write down what is found, recover, and write down how it ends.

    Recovery ignores a tree without a requested run: a run must be requested first.
    """
    await dump(store, work.path / "found.json")
    stop.say("running")
    await recover(store)
    await dump(store, work.path / "recovered.json")
    root = (await store.get([trees.ROOT]))[trees.ROOT]
    if root.run_requested_at is None and root.run_ended_at is None:
        await TaskExecutor().execute_task_by_id(trees.ROOT, db_session=store)
    await dump(store, work.path / "ended.json")


async def dump(store: TaskStore, path: Path) -> None:
    write_down(path, await store.tree(trees.ROOT), await store.events(trees.ROOT))


def write_down(path: Path, tasks: Sequence[Task], events: Sequence[TaskEvent]) -> None:
    found: dict[str, Any] = {
        "tasks": {task.id: {name: to_json(value) for name, value in asdict(task).items()} for task in tasks},
        "events": [event.to_dict() for event in events],
    }
    path.write_text(json.dumps(found))


async def main(work: Work) -> None:
    history = History(work.path / "history.jsonl", work.life, work.pipe)
    stop = Stop(work.point if work.life == 1 else None, work.pipe)
    executors.register(history, stop)
    async with create_session(f"duckdb:///{work.path / 'store.duckdb'}") as store:
        if work.life == 1:
            await First(work, store, history, stop).live()
        else:
            await next_life(work, store, stop)


if __name__ == "__main__":
    asyncio.run(main(Work(**json.loads(sys.argv[1]))))
