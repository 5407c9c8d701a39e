from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core.authoring.creator import TaskCreator
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore


class Maybe(BaseTask):
    id = "lists_maybe"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs.get("fails"):
            raise RuntimeError("as asked")
        return {}


@pytest.fixture(autouse=True)
def executor() -> Iterator[None]:
    get_registry().register(Maybe)
    yield
    get_registry().unregister(Maybe.id)


@pytest.fixture
def service() -> TaskService:
    return TaskService(MemoryStore())


def tree(name: str, *, fails: bool = False, is_optional: bool = False) -> list[dict[str, Any]]:
    """Return a tree whose root has an executor and needs its only child."""
    method = {"method": Maybe.id}
    needs = [{"id": f"{name}-c", "required": not is_optional}]
    return [
        {"id": name, "name": name, "schemas": method, "dependencies": needs},
        {"id": f"{name}-c", "name": "c", "parent_id": name, "schemas": method, "inputs": {"fails": fails}},
    ]


async def listed(service: TaskService, **filters: Any) -> dict[str, Any]:
    return {each["id"]: each for each in await service.list(with_tree=True, **filters)}


async def test_a_list_shows_what_each_tree_adds_up_to(service: TaskService):
    for name in ("good", "bad"):
        await service.create(tree(name, fails=name == "bad"))
        await service.run(name)
    await service.create(tree("fresh"))
    found = await listed(service, root_only=False)
    assert {name: found[name]["tree"]["status"] for name in ("good", "bad", "fresh")} == {
        "good": "completed",
        "bad": "failed",
        "fresh": "pending",
    }
    assert found["fresh"]["tree"] == {
        "status": "pending",
        "progress": 0.0,
        "total": 2,
        "by_status": {
            "pending": 2,
            "in_progress": 0,
            "completed": 0,
            "failed": 0,
            "cancelled": 0,
            "skipped": 0,
        },
    }
    assert found["bad"]["tree"]["progress"] == 1.0
    assert "tree" not in found["good-c"]
    assert "tree" not in (await service.list())[0]


async def test_a_tree_with_a_tolerated_failure_has_completed(service: TaskService):
    await service.create(tree("tolerant", fails=True, is_optional=True))
    await service.run("tolerant")
    found = (await listed(service))["tolerant"]["tree"]
    assert (found["status"], found["by_status"]["failed"]) == ("completed", 1)


async def test_the_progress_of_a_root_that_ended_first_is_that_of_its_tree(service: TaskService):
    array = tree("early")
    del array[0]["dependencies"]
    await service.create(array)
    await service.update("early", status="completed")
    shown = (await listed(service))["early"]
    assert (shown["progress"], shown["status"]) == (1.0, "completed")
    assert (shown["tree"]["progress"], shown["tree"]["status"]) == (0.5, "pending")


async def test_a_count_has_the_filters_of_the_list(service: TaskService):
    for name in ("x1", "x2", "y1"):
        await TaskCreator(service.db).create_task_tree_from_array([{"id": name, "name": "same"}])
    filters: list[dict[str, Any]] = [
        {"id_prefix": "x"},
        {"key": "y1"},
        {"since": "1h"},
        {"since": "2100-01-01"},
        {"original_task_id": "x1"},
    ]
    for each in filters:
        assert (await service.count(**each))["total"] == len(await service.list(root_only=False, **each))
    assert [len(await service.list(**each)) for each in filters] == [2, 1, 3, 0, 0]


async def test_a_span_that_cannot_be_read_is_refused_with_its_parameter(service: TaskService):
    with pytest.raises(InvalidInputError) as refused:
        await OPERATIONS["tasks.list"].call(service, {"since": "yesterday"})
    [violation] = refused.value.violations
    assert violation.startswith("since: ")
    assert "12h" in violation
