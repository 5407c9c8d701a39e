from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apflow.core.errors import TreeInvalidError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Dependency, Task, utc_now
from apflow.core.model.usage import UsageEntry, UsageTotals
from apflow.core.permissions.secret_policy import Author
from apflow.core.planning.capabilities import capabilities_of
from apflow.core.planning.forecast import critical_path, waves_of
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore


class Works(BaseTask):
    id = "forecast_works"
    inputs_schema = {"type": "object", "properties": {"n": {"type": "integer"}}}

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def executor() -> Iterator[None]:
    get_registry().register(Works)
    yield
    get_registry().unregister(Works.id)


def task(name: str, *needs: str, parent: str | None = "root", **more: Any) -> Task:
    dependencies = [Dependency(id=each, required=True) for each in needs]
    given: dict[str, Any] = {"executor": "x"} | more
    return Task(id=name, name=name, root_id="root", parent_id=parent, dependencies=dependencies, **given)


def test_a_wave_needs_only_earlier_ones_and_starts_by_priority():
    tasks = [
        task("root", "c", "d", parent=None),
        task("b", priority=1),
        task("a", priority=0),
        task("c", "a"),
        task("d", "c", "b"),
    ]
    assert waves_of(tasks) == [["a", "b"], ["c"], ["d"], ["root"]]


def test_groups_have_no_wave_and_what_needs_them_waits_for_their_members():
    tasks = [
        task("root", parent=None, executor=GROUP, has_children=True),
        task("group", executor=GROUP, has_children=True),
        task("a", parent="group"),
        task("b", "a", parent="group"),
        task("after", "group"),
    ]
    assert waves_of(tasks) == [["a"], ["b"], ["after"]]
    path = critical_path(tasks, {"a": 1.0, "b": 2.0, "after": 0.5})
    assert (path.task_ids, path.seconds) == (["a", "b", "after"], 3.5)


def test_tasks_that_have_ended_are_left_out():
    done = {"status": TaskStatus.COMPLETED}
    tasks = [task("root", "a", "b", parent=None), task("a", **done), task("b", "a")]
    assert waves_of(tasks) == [["b"], ["root"]]


def test_the_critical_path_is_the_slowest_chain_not_the_longest_one():
    tasks = [
        task("root", "slow", "c", parent=None),
        task("slow"),
        task("a"),
        task("b", "a"),
        task("c", "b"),
    ]
    seconds = {"slow": 10.0, "a": 1.0, "b": 1.0, "c": 1.0, "root": 2.0}
    path = critical_path(tasks, seconds)
    assert (path.task_ids, path.seconds) == (["slow", "root"], 12.0)
    path = critical_path(tasks, seconds | {"slow": 2.0})
    assert (path.task_ids, path.seconds) == (["a", "b", "c", "root"], 5.0)


def test_tasks_that_wait_forever_are_in_no_wave():
    assert waves_of([task("root", parent=None), task("a", "b"), task("b", "a")]) == [["root"]]


def with_inputs(**inputs: Any) -> dict[str, Any]:
    return capabilities_of([task("t", inputs=inputs)]).to_dict()


@pytest.mark.parametrize(
    ("inputs", "kind", "values"),
    [
        ({"url": "https://api.example.com:8443/a?b=c"}, "hosts", ["api.example.com"]),
        ({"url": "https://user:pass@[2001:db8::1]/"}, "hosts", ["2001:db8::1"]),
        ({"server": "grpc.example.com:50051"}, "hosts", ["grpc.example.com"]),
        ({"host": "db1"}, "hosts", ["db1"]),
        ({"base_url": "http://a/", "url": "http://b/"}, "hosts", ["b", "a"]),
        ({"command": "'/usr/bin/my tool' --x 1"}, "commands", ["/usr/bin/my tool"]),
        ({"command": ["ls", "-l"]}, "commands", ["ls"]),
        ({"image": "alpine:3", "command": "rm -rf /"}, "images", ["alpine:3"]),
        ({"image": "alpine:3", "command": "rm -rf /"}, "commands", []),
        ({"headers": {"a": {"$secret": "TOKEN"}}}, "secrets", ["TOKEN"]),
        ({"url": {"$from": "a", "path": "url"}}, "undetermined", ["t.inputs.url"]),
        ({"url": "http://[bad"}, "undetermined", ["t.inputs.url"]),
        ({"command": "'open"}, "undetermined", ["t.inputs.command"]),
        ({"command": {"$secret": "CMD"}}, "undetermined", ["t.inputs.command"]),
        ({"url": None, "command": ""}, "undetermined", []),
    ],
)
def test_what_a_task_may_touch_is_found_in_its_inputs(inputs: dict[str, Any], kind: str, values: list[str]):
    assert with_inputs(**inputs)[kind] == values


TREE: list[dict[str, Any]] = [
    {"id": "all", "name": "all"},
    {"id": "first", "name": "work", "parent_id": "all", "schemas": {"method": Works.id}},
    {
        "id": "second",
        "name": "other",
        "parent_id": "all",
        "schemas": {"method": Works.id},
        "dependencies": ["first"],
        "inputs": {"key": {"$secret": "PLANNED_KEY"}},
    },
]


async def plan(service: TaskService, tasks: Any = TREE) -> dict[str, Any]:
    found: dict[str, Any] = await OPERATIONS["tasks.plan"].call(service, {"tasks": tasks})
    return found


def ran(name: str, seconds: float, **more: Any) -> Task:
    start = utc_now() - timedelta(days=1)
    given: dict[str, Any] = {"executor": Works.id, "status": TaskStatus.COMPLETED}
    given |= {"started_at": start, "completed_at": start + timedelta(seconds=seconds)}
    task_id = more.pop("id")
    return Task(id=task_id, name=name, root_id=task_id, **(given | more))


async def test_a_plan_stores_nothing_and_has_estimates_from_the_history():
    db = MemoryStore()
    for at, seconds in enumerate((1.0, 2.0, 90.0)):
        await db.add([ran("work", seconds, id=f"old{at}")])
    await db.add([ran("work", 1000.0, id="failed", status=TaskStatus.FAILED)])
    await db.add([ran("work", 1000.0, id="else", executor="another")])
    entry = UsageEntry(
        task_id="old0",
        root_id="old0",
        top_id="old0",
        user_id=None,
        model="m",
        totals=UsageTotals(cost_usd=0.3),
    )
    await db.add_usage([entry])
    service = TaskService(db)
    before = await service.count()
    found = await plan(service)
    assert await service.count() == before
    assert found["waves"] == [["first"], ["second"]]
    first, second = found["tasks"]
    assert (first["expected_seconds"], first["runs"], first["executor"]) == (2.0, 3, Works.id)
    assert first["expected_cost_usd"] == pytest.approx(0.1)
    assert (second["expected_seconds"], second["runs"], second["dependencies"]) == (None, 0, ["first"])
    assert (found["expected_seconds"], found["without_history"], found["total"]) == (2.0, 1, 3)
    assert found["expected_cost_usd"] == pytest.approx(0.1)
    assert found["critical_path"] == ["first", "second"]


async def test_without_a_history_the_critical_path_is_the_one_with_most_tasks():
    found = await plan(TaskService(MemoryStore()))
    assert (found["critical_path"], found["expected_seconds"]) == (["first", "second"], None)
    assert found["expected_cost_usd"] is None


async def test_executors_that_are_missing_and_inputs_that_are_wrong_are_named():
    found = await plan(
        TaskService(MemoryStore()),
        [
            {"id": "a", "name": "nothing_like_it"},
            {"id": "b", "name": Works.id, "inputs": {"n": "one"}, "parent_id": "a"},
            {"id": "c", "name": "c", "schemas": {"method": "nowhere"}, "parent_id": "a"},
        ],
    )
    problems = "\n".join(found["problems"])
    assert "tasks[1]" in problems
    assert "nowhere" in problems
    assert found["capabilities"]["executors"] == [Works.id, "nowhere"]


async def test_secrets_that_are_not_set_are_named(monkeypatch: pytest.MonkeyPatch):
    service = TaskService(MemoryStore())
    assert (await plan(service))["secrets"] == {"PLANNED_KEY": "missing"}
    monkeypatch.setenv("APFLOW_SECRET_PLANNED_KEY", "the-secret-value")
    found = await plan(service)
    assert found["secrets"] == {"PLANNED_KEY": "set"}
    assert "the-secret-value" not in str(found)


async def test_a_caller_does_not_learn_whether_a_secret_is_set_that_it_may_not_use(
    monkeypatch: pytest.MonkeyPatch,
):
    service = TaskService(MemoryStore(), "ann", author=Author("ann", ()))
    missing = (await plan(service))["secrets"]
    monkeypatch.setenv("APFLOW_SECRET_PLANNED_KEY", "the-secret-value")
    assert (await plan(service))["secrets"] == missing == {"PLANNED_KEY": "refused"}


async def test_a_caller_gets_estimates_from_its_own_tasks_only():
    db = MemoryStore()
    await db.add([ran("work", 7.0, id="bob's", user_id="bob")])
    found = await plan(TaskService(db, "ann"))
    assert (found["expected_seconds"], found["without_history"]) == (None, 2)


async def test_an_invalid_tree_has_no_plan():
    with pytest.raises(TreeInvalidError, match="dependency"):
        await plan(TaskService(MemoryStore()), [{"name": "a", "dependencies": ["b"]}])


def test_conditions_count_as_true():
    condition = {"policy": {"when": "a.x"}}
    tasks = [
        task("root", parent=None, executor=GROUP),
        task("a"),
        task("b", "a", **condition),
        task("c", "b"),
    ]
    assert waves_of(tasks) == [["a"], ["b"], ["c"]]
    assert critical_path(tasks, {"a": 1, "b": 2, "c": 3}).task_ids == ["a", "b", "c"]


async def test_a_task_with_a_list_counts_as_one_and_its_template_among_what_the_tree_touches():
    each = {
        "name": "each",
        "parent_id": "root",
        "dependencies": ["list"],
        "schemas": {"method": "forecast_works"},
        "inputs": {"n": {"$item": "n"}, "url": "http://example.com/x", "command": {"$item": "c"}},
        "for_each": {"items": {"$from": "list"}},
    }
    listed = {"name": "list", "parent_id": "root", "schemas": {"method": "forecast_works"}}
    found = await TaskService(MemoryStore()).plan([{"name": "root"}, listed, each])
    assert found["waves"] == [["list"], ["each"]]
    assert found["problems"] == []
    assert found["critical_path"] == ["list", "each"]
    assert found["capabilities"]["executors"] == ["forecast_works"]
    assert found["capabilities"]["hosts"] == ["example.com"]
    assert found["capabilities"]["undetermined"] == ["each.inputs.command"]
