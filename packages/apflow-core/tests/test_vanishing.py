"""Trees that are deleted in the middle of an operation: they are not found, whenever that happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from apflow.core.authoring.repository import TaskRepository
from apflow.core.errors import ConflictError, NotFoundError
from apflow.core.model.task import Json, Task
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore

TREE = [
    {"id": "r", "name": "root"},
    {"id": "a", "name": "a", "parent_id": "r"},
    {"id": "b", "name": "b", "parent_id": "r", "dependencies": ["a"]},
]
WITHOUT_IT = ("running", "delete_task")  # have an answer where it is not there
READS = 6  # more than any of the operations makes before it writes


class Vanishing(MemoryStore):
    """A store whose tree is deleted before a read."""

    reads_left = -1

    async def get(self, ids: Sequence[str]) -> dict[str, Task]:
        await self._vanish()
        return await super().get(ids)

    async def tree(self, root_id: str) -> list[Task]:
        await self._vanish()
        return await super().tree(root_id)

    async def find(self, query: TaskQuery) -> list[Task]:
        await self._vanish()
        return await super().find(query)

    async def _vanish(self) -> None:
        if self.reads_left == 0:
            await self.remove(["r", "a", "b"])
        self.reads_left -= 1


OPERATIONS: dict[str, Callable[[TaskService], Awaitable[Json]]] = {
    "get": lambda service: service.get("a"),
    "tree": lambda service: service.tree("a"),
    "children": lambda service: service.children("r"),
    "update": lambda service: service.update("a", priority=1),
    "update the root": lambda service: service.update("r", priority=1),
    "update dependencies": lambda service: service.update("b", dependencies=[]),
    "delete": lambda service: service.delete("b"),
    "copy": lambda service: service.copy("b"),
    "copy some": lambda service: service.copy("r", copy_mode="custom", custom_task_ids=["a"]),
    "execute": lambda service: service.execute("r"),
    "execute a copy": lambda service: service.execute("r", copy_execution=True),
    "cancel": lambda service: service.cancel(["r", "a"]),
    "status": lambda service: service.status(["r", "a"]),
    "running": lambda service: service.running(),
    "why": lambda service: service.why("b"),
    "resume": lambda service: service.resume(["r"]),
    "follow": lambda service: service.follow("a"),
    "delete_task": lambda service: TaskRepository(service.db).delete_task("b"),
    "find_dependent_tasks": lambda service: TaskRepository(service.db).find_dependent_tasks("a"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_tree_that_is_deleted_meanwhile_is_not_found(operation: str):
    endings: set[str] = set()
    for reads in range(READS):
        db = Vanishing()
        service = TaskService(db, is_served=True)
        await service.create(TREE)
        if operation == "running":
            await service.execute("r")
        db.reads_left = reads
        with suppress(ConflictError):
            try:
                await OPERATIONS[operation](service)
                endings.add("done")
            except NotFoundError:
                endings.add("not found")
    assert ("not found" in endings) is (operation not in WITHOUT_IT)
