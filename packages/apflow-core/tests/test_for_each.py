"""Fan-out over data: one element for each item of a list, created while the tree runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.authoring.array_validation import check_array
from apflow.core.authoring.copy_plan import as_array
from apflow.core.authoring.delete_plan import plan_deletion
from apflow.core.authoring.edit_plan import plan_addition, plan_update
from apflow.core.authoring.run_check import check_runnable
from apflow.core.engine.recovery import recover
from apflow.core.errors import ConflictError, InvalidInputError, TreeInvalidError
from apflow.core.extensions.registry import executor_is_known
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.model.tree import TaskTreeNode, tree_status
from apflow.core.planning.capabilities import capabilities_of
from apflow.core.planning.explain import explain
from apflow.core.planning.fan_out import FanOutLimits, expand
from apflow.core.planning.run_start import missing_executors
from apflow.core.planning.scope import in_scope_ids
from apflow.core.service.rendering import shown
from apflow.core.settings import get_settings, reset_settings
from apflow.core.store.base import Change, Transition

Array = list[dict[str, Any]]


class Mapped(BaseTask):
    """Returns `value`, and fails if `fails` is true. With `gate`, waits for it."""

    id = "test_mapped"
    effect = "idempotent"
    calls: list[Any] = []
    running = 0
    most = 0
    gate: asyncio.Event | None = None

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Mapped.calls.append(inputs.get("value"))
        Mapped.running += 1
        Mapped.most = max(Mapped.most, Mapped.running)
        try:
            if Mapped.gate is not None and inputs.get("waits", True):
                await Mapped.gate.wait()
            else:
                await asyncio.sleep(0)
        finally:
            Mapped.running -= 1
        if "json" in inputs:
            return json.loads(inputs["json"])
        if "size" in inputs:
            return "x" * inputs["size"]
        if inputs.get("fails"):
            raise ValueError(f"item {inputs.get('value')} is bad")
        return inputs.get("value")


@pytest.fixture(autouse=True)
def mapped() -> Iterator[None]:
    Mapped.calls, Mapped.running, Mapped.most, Mapped.gate = [], 0, 0, None
    executor_register(Mapped, override=True)
    yield
    get_registry().unregister("test_mapped")
    reset_settings()


def task(name: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "schemas": {"method": "test_mapped"}, "inputs": {"value": value}} | more


def mapping(items: Any, value: Any = None, **more: Any) -> Array:
    """A tree whose list comes from a result."""
    for_each = {"items": {"$from": "list"}} | more
    value = {"$item": "@"} if value is None else value
    return [
        {"name": "root"},
        task("list", items, parent_id="root"),
        task("each", value, parent_id="root", dependencies=["list"], for_each=for_each),
        task("after", {"$from": "each"}, parent_id="root", dependencies=["each"]),
    ]


async def run(array: Array, db: MemoryStore | None = None) -> Any:
    return await TaskExecutor().execute_tasks(array, db_session=db or MemoryStore())


async def tree_of(array: Array) -> tuple[MemoryStore, str]:
    db = MemoryStore()
    return db, (await TaskCreator(db).create_task_tree_from_array(array)).task.id


async def by_key(db: MemoryStore, root_id: str) -> dict[str, Task]:
    return {each.key: each for each in await db.tree(root_id)}


async def test_each_item_of_a_result_becomes_a_task_and_the_results_keep_the_order():
    db = MemoryStore()
    outcome = await run(mapping([{"n": 3}, {"n": 1}, {"n": 2}], [{"$item": "n"}, {"$index": 0}]), db)
    assert outcome["status"] == "completed"
    assert outcome.results["each"] == outcome.results["after"] == [[3, 0], [1, 1], [2, 2]]
    assert outcome.results["each[1]"] == [1, 1]
    tasks = await by_key(db, outcome["root_task_id"])
    assert tasks["each[1]"].parent_id == tasks["each"].id
    assert tasks["each"].has_children
    assert tasks["each[1]"].inputs == {"value": [1, 1]}
    created = [
        event.key for event in await db.events(outcome["root_task_id"]) if event.type == "task_created"
    ]
    assert created[-3:] == ["each[0]", "each[1]", "each[2]"]


async def test_params_and_policy_of_the_task_hold_for_its_elements():
    entry = task(
        "each", {"$index": 1}, policy={"retry": {"max_attempts": 2, "delay": 0}}, label="all", tags=["x"]
    )
    entry |= {"schemas": {}, "params": {"executor_id": "test_mapped"}, "priority": 1}
    db = MemoryStore()
    entry["for_each"] = {"items": [{"fails": True}, {}], "allow_failures": 1}
    entry["inputs"]["fails"] = {"$item": "fails", "default": False}
    outcome = await run([entry], db)
    assert outcome["result"] == [None, 2]
    tasks = await by_key(db, outcome["root_task_id"])
    element = tasks["each[0]"]
    assert (element.attempts, element.priority, element.label, element.tags) == (2, 1, "all", ["x"])
    assert element.policy == {"retry": {"max_attempts": 2, "delay": 0}}


async def test_batches_are_lists_and_the_last_one_may_be_shorter():
    outcome = await run(mapping([1, 2, 3, 4, 5], batch=2))
    assert outcome.results["each"] == [[1, 2], [3, 4], [5]]


async def test_an_empty_list_completes_with_an_empty_result():
    outcome = await run(mapping([]))
    assert (outcome["status"], outcome.results["after"]) == ("completed", [])


@pytest.mark.parametrize(
    ("items", "path", "words"),
    [
        ({"rows": 1}, "rows", "gives a number, not a list"),
        ({"rows": {"a": []}}, "rows", "gives an object, not a list"),
        ("rows", "@", "gives text, not a list"),
        ({}, "rows", "finds nothing"),
        ([1, 2, 3], "@", "has 3 items, more than max_items, 2. Nothing was created"),
        ([{"a": {"$secret": "TOKEN"}}], "@", "[0].a has a member '$secret'"),
    ],
)
async def test_what_is_no_usable_list_fails_the_task_before_anything_is_created(
    items: Any, path: str, words: str
):
    db = MemoryStore()
    array = mapping(None, max_items=2)
    array[1]["inputs"] = {"json": json.dumps(items)}
    array[2]["for_each"]["items"]["path"] = path
    outcome = await run(array, db)
    tasks = await by_key(db, outcome["root_task_id"])
    assert outcome["status"] == "failed"
    assert words in tasks["each"].error
    assert tasks["each"].result["error_type"] == "ForEachInvalid"
    assert tasks["after"].result["error_type"] == "DependencyFailed"
    assert tasks.keys() == {"root", "list", "each", "after"}
    assert "TOKEN" not in tasks["each"].error


def test_a_list_that_is_too_long_for_the_tree_is_refused():
    each = check_array(mapping([]), get_settings())[2]
    each.policy["for_each"] = {"items": [1, 2, 3]}
    refused = expand(each, {"a": each}, 1, FanOutLimits(max_tasks=3))
    assert "3 elements of 1 tasks are too many for the tree, which has 1 tasks" in refused.error
    assert len(expand(each, {"a": each}, 1, FanOutLimits(max_tasks=4))) == 3


async def test_a_result_within_a_list_does_not_become_a_reference_either():
    array = mapping(None)
    array[1]["inputs"] = {"json": '{"$secret": "TOKEN"}'}
    array[2]["for_each"]["items"] = [1, {"$from": "list"}]
    outcome = await run(array)
    assert "for_each.items[1] has a member '$secret'" in outcome["error"]


async def test_an_item_without_the_part_that_a_task_names_fails_before_anything_is_created():
    outcome = await run(mapping([{"a": 1}, {"b": 2}], {"$item": "a"}))
    assert "inputs.value: the path 'a' finds nothing in element 1" in outcome["error"]
    assert Mapped.calls == [[{"a": 1}, {"b": 2}]]


@pytest.mark.parametrize(
    ("allowed", "failing", "status"),
    [(0, 0, "completed"), (0, 1, "failed"), (2, 2, "completed"), (2, 3, "failed"), (0.2, 2, "completed"),
     (0.2, 3, "failed"), (0.19, 2, "failed"), (0.1, 1, "completed")],
)  # fmt: skip
async def test_a_number_or_a_share_of_the_elements_may_fail(allowed: float, failing: int, status: str):
    array = mapping([{"fails": at < failing} for at in range(10)], {"$index": 0}, allow_failures=allowed)
    array[2]["inputs"]["fails"] = {"$item": "fails"}
    outcome = await run(array)
    assert outcome["status"] == status
    if status == "completed":
        assert outcome.results["after"] == [None] * failing + list(range(failing, 10))
        assert len(outcome["tolerated"]) == failing
    else:
        assert f"{failing} of 10 elements failed" in (await _error_of(array))
        assert "item 0 is bad" in outcome["error"]


async def _error_of(array: Array) -> str:
    db = MemoryStore()
    outcome = await run(array, db)
    return str((await by_key(db, outcome["root_task_id"]))["each"].error)


async def test_no_more_elements_run_at_once_than_may():
    Mapped.gate = asyncio.Event()
    array = mapping(list(range(20)), max_parallel=3)
    array[1]["inputs"]["waits"] = False
    running = asyncio.create_task(run(array))
    while Mapped.running < 3:
        await asyncio.sleep(0)
    Mapped.gate.set()
    assert (await running).results["each"] == list(range(20))
    assert Mapped.most == 3


async def test_results_that_are_too_large_together_fail_the_task_and_can_be_left_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("APFLOW_MAX_RESULT_BYTES", "5000")
    reset_settings()
    array = mapping([1000] * 5)[:3]
    array[2]["inputs"] = {"size": {"$item": "@"}}
    outcome = await run(array)
    assert "more than 5,000 bytes" in outcome["error"]
    assert len(outcome.results["each[4]"]) == 1000
    array[2]["for_each"]["collect"] = False
    outcome = await run(array)
    assert outcome.results["each"] == {"elements": 5, "completed": 5}


def regions(**more: Any) -> Array:
    """A list in a list: the inner one is a part of the items of the outer one."""
    cells = task(
        "cells",
        [{"$item": "@"}, {"$item": "name", "of": "regions"}, {"$index": 0}, {"$index": 1, "of": "regions"}],
        parent_id="region",
        for_each={"items": {"$item": "cells"}} | more,
    )
    total = task("total", {"$from": "cells"}, parent_id="region", dependencies=["cells"])
    template = [{"name": "region"}, cells, total]
    return [{"name": "regions", "for_each": {"items": [
        {"name": "north", "cells": [1, 2]}, {"name": "south", "cells": []}, {"name": "west", "cells": [3]},
    ], "tasks": template}}]  # fmt: skip


async def test_the_tree_of_an_element_may_have_lists_of_its_own():
    db = MemoryStore()
    outcome = await run(regions(), db)
    north, west = [[1, "north", 0, 1], [2, "north", 1, 1]], [[3, "west", 0, 3]]
    assert outcome["status"] == "completed"
    assert outcome["result"] == [
        {"cells": north, "total": north}, {"cells": [], "total": []}, {"cells": west, "total": west},
    ]  # fmt: skip
    tasks = await by_key(db, outcome["root_task_id"])
    assert tasks["regions[0].cells[1]"].parent_id == tasks["regions[0].cells"].id
    assert len(tasks) == 1 + 3 * 3 + 3


async def test_elements_are_stored_once_however_the_list_is_nested():
    db, root_id = await tree_of(regions())
    await TaskManager(db).distribute_task_tree(await _node(db, root_id))
    keys = [each.key for each in await db.tree(root_id)]
    assert len(keys) == len(set(keys)) == 13


async def _node(db: MemoryStore, root_id: str) -> Any:
    return TaskTreeNode.build(await db.tree(root_id))


async def test_a_failure_inside_of_an_element_counts_as_one_and_is_tolerated():
    template = [
        {"name": "top"},
        task("first", {"$index": 0}, parent_id="top"),
        task("second", {"$from": "first"}, parent_id="top", dependencies=["first"]),
    ]
    template[1]["inputs"]["fails"] = {"$item": "@"}
    db = MemoryStore()
    array = [
        {"name": "each", "for_each": {"items": [False, True, False], "tasks": template, "allow_failures": 1}}
    ]
    outcome = await run(array, db)
    assert outcome["status"] == "completed"
    assert outcome["result"] == [{"first": 0, "second": 0}, None, {"first": 2, "second": 2}]
    tasks = await by_key(db, outcome["root_task_id"])
    assert {each.key for each in tasks.values() if each.id in outcome["tolerated"]} == {
        "each[1]", "each[1].first", "each[1].second",
    }  # fmt: skip


@pytest.mark.parametrize("has_ids", [False, True])
async def test_the_tree_of_an_element_may_use_what_its_list_depends_on(has_ids: bool):
    inner = task("deep", [{"$from": "rate"}, {"$item": "@"}], for_each={"items": {"$item": "@"}})
    inner |= {"parent_id": "top", "dependencies": ["rate", "first"], "when": "rate > `1`"}
    template = [
        {"name": "top"},
        task("first", {"$from": "rate"}, parent_id="top", dependencies=["rate"]),
        inner,
        {
            "name": "last", "parent_id": "top", "dependencies": ["deep", "rate"],
            "for_each": {"items": {"$from": "deep"}, "tasks": [
                task("in it", [{"$item": "[1]"}, {"$from": "rate"}], dependencies=["rate"]),
            ]},
        },
    ]  # fmt: skip
    array = [
        {"name": "root"},
        task("rate", 2, parent_id="root"),
        {
            "name": "each", "parent_id": "root", "dependencies": ["rate"],
            "for_each": {"items": [[5], [6, 7]], "tasks": template},
        },
    ]  # fmt: skip
    if has_ids:
        array = [{"id": entry["name"]} | entry for entry in array]
    db, root_id = await tree_of(array)
    copy = await TaskCreator(db).create_task_copy((await db.get([root_id]))[root_id])
    for tree_id in (root_id, copy.task.id):
        outcome = await TaskExecutor().execute_task_by_id(tree_id, db_session=db)
        assert outcome.results["each"] == [
            {"first": 2, "deep": [[2, 5]], "last": [[5, 2]]},
            {"first": 2, "deep": [[2, 6], [2, 7]], "last": [[6, 2], [7, 2]]},
        ]
    template[1]["dependencies"] = ["root"]
    with pytest.raises(TreeInvalidError, match="'root' is not a task of the array"):
        check_array(array, get_settings())


async def test_conditions_and_priorities_hold_within_the_tree_of_an_element():
    template = [
        {"id": "t", "name": "top"},
        task("first", {"$item": "@"}, id="f", parent_id="t", priority=0),
        task("second", {"$from": "f"}, id="s", parent_id="t", dependencies=["f"], when="f > `1`"),
    ]
    db = MemoryStore()
    outcome = await run([{"name": "each", "for_each": {"items": [1, 2], "tasks": template}}], db)
    assert outcome["result"] == [{"f": 1, "s": None}, {"f": 2, "s": 2}]
    tasks = await by_key(db, outcome["root_task_id"])
    assert (str(tasks["each[0].s"].status), tasks["each[0].f"].priority) == ("skipped", 0)


def test_a_task_of_an_element_has_not_ended_before():
    template = [{"name": "a", "status": "completed", "result": 1}]
    with pytest.raises(TreeInvalidError, match="'a' has a status"):
        check_array([{"name": "each", "for_each": {"items": [], "tasks": template}}], get_settings())


# --- interruptions ---------------------------------------------------------------------------------


async def test_a_run_that_its_process_left_continues_with_the_elements_that_remain():
    Mapped.gate = asyncio.Event()
    db, root_id = await tree_of(mapping(list(range(10)), max_parallel=4))
    Mapped.gate.set()
    driving = asyncio.create_task(TaskManager(db).distribute_task_tree(await _node(db, root_id)))
    while not any(each.key == "each[0]" for each in await db.tree(root_id)):
        await asyncio.sleep(0)
    snapshot = await db.tree(root_id)  # as kill -9 would leave it
    await driving
    left = MemoryStore()
    for each in snapshot:
        each.run_owner = "dead" if each.id == root_id else None
        each.owner = "dead" if each.status == "in_progress" else each.owner
    await left.add(snapshot)
    before = {each.id for each in snapshot}
    Mapped.calls.clear()
    assert await recover(left) == [root_id]
    tasks = await by_key(left, root_id)
    assert tree_status(list(tasks.values())).status == "completed"
    assert tasks["each"].result == list(range(10))
    assert {each.id for each in tasks.values()} == before  # each element once
    ended = [each for each in snapshot if each.key.startswith("each[") and each.status == "completed"]
    assert len([call for call in Mapped.calls if isinstance(call, int)]) == 10 - len(ended)


async def test_a_cancelled_list_keeps_what_completed_and_continues_when_it_is_executed_again():
    Mapped.gate = asyncio.Event()
    array = mapping([{"waits": at >= 3} for at in range(6)], {"$index": 0})
    array[1]["inputs"]["waits"] = False
    array[2]["inputs"]["waits"] = {"$item": "waits"}
    db, root_id = await tree_of(array)
    driving = asyncio.create_task(TaskManager(db).distribute_task_tree(await _node(db, root_id)))
    while sum(each.status == "completed" for each in await db.tree(root_id)) < 4:
        await asyncio.sleep(0)
    each = (await by_key(db, root_id))["each"]
    await TaskManager(db).cancel_task(each.id)
    await driving
    tasks = await by_key(db, root_id)
    assert [str(tasks[f"each[{at}]"].status) for at in range(6)] == ["completed"] * 3 + ["cancelled"] * 3
    assert tasks["each"].status == tasks["after"].status == "cancelled"
    Mapped.gate.set()
    Mapped.calls.clear()
    outcome = await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    assert outcome.results["after"] == list(range(6))
    assert sorted(call for call in Mapped.calls if isinstance(call, int)) == [3, 4, 5]


async def test_elements_that_have_not_started_are_cancelled_too():
    Mapped.gate = asyncio.Event()
    array = mapping(list(range(5)), max_parallel=2)
    array[1]["inputs"]["waits"] = False
    db, root_id = await tree_of(array)
    driving = asyncio.create_task(TaskManager(db).distribute_task_tree(await _node(db, root_id)))
    while Mapped.running < 2:
        await asyncio.sleep(0)
    await TaskManager(db).cancel_task((await by_key(db, root_id))["each"].id)
    await driving
    tasks = await by_key(db, root_id)
    assert {str(tasks[f"each[{at}]"].status) for at in range(5)} == {"cancelled"}
    assert Mapped.most == 2


# --- executing again -------------------------------------------------------------------------------


async def test_executing_again_repeats_the_elements_that_failed_and_keeps_the_others():
    array = mapping([{"fails": at == 1} for at in range(3)], {"$index": 0})
    array[2]["inputs"]["fails"] = {"$item": "fails"}
    db, root_id = await tree_of(array)
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    before = await by_key(db, root_id)
    failed = before["each[1]"]
    await db.move([Transition(failed.id, root_id, {"status": "failed"}, {"inputs": {"value": 1}})])
    Mapped.calls.clear()
    outcome = await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    assert outcome.results["after"] == [0, 1, 2]
    assert Mapped.calls == [1, [0, 1, 2]]
    assert {each.id for each in await db.tree(root_id)} == {each.id for each in before.values()}


async def test_executing_what_gives_the_list_again_creates_the_elements_again():
    db, root_id = await tree_of(mapping([1, 2, 3]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    before = await by_key(db, root_id)
    await db.move([Transition(before["list"].id, root_id, {}, {"inputs": {"value": [4, 5]}})])
    outcome = await TaskExecutor().execute_task_by_id(before["list"].id, force=True, db_session=db)
    after = await by_key(db, root_id)
    assert after["each"].result == [4, 5], outcome
    assert sorted(after) == ["after", "each", "each[0]", "each[1]", "list", "root"]
    assert after["each[0]"].id != before["each[0]"].id  # so that no receiver takes it for the same call


async def test_one_element_can_be_executed_again():
    db, root_id = await tree_of(mapping([1, 2, 3]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    before = await by_key(db, root_id)
    Mapped.calls.clear()
    await TaskExecutor().execute_task_by_id(before["each[1]"].id, force=True, db_session=db)
    after = await by_key(db, root_id)
    assert after["each"].result == [1, 2, 3]
    assert after["each[1]"].generation == 1
    assert Mapped.calls == [2, [1, 2, 3]]


async def test_a_run_of_a_part_of_the_tree_includes_the_elements_that_it_creates():
    db, root_id = await tree_of(mapping([1, 2]))
    each = (await by_key(db, root_id))["each"]
    await TaskExecutor().execute_task_by_id(each.id, db_session=db)
    tasks = await by_key(db, root_id)
    assert tasks["each"].result == [1, 2]
    assert tasks["after"].status == "pending"
    # So it is for a process that continues such a run, too.
    scope = in_scope_ids(list(tasks.values()), [each.id])
    assert scope == {each.id, tasks["each[0]"].id, tasks["each[1]"].id}


# --- copies, forks, changes ------------------------------------------------------------------------


async def test_a_copy_creates_its_own_elements():
    db, root_id = await tree_of(mapping([1, 2]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    copy = await TaskCreator(db).create_task_copy((await by_key(db, root_id))["root"])
    assert {each.task.key for each in copy.walk()} == {"root", "list", "each", "after"}
    outcome = await TaskExecutor().execute_task_by_id(copy.task.id, db_session=db)
    assert outcome.results["after"] == [1, 2]


async def test_a_fork_from_an_element_keeps_the_others():
    db, root_id = await tree_of(mapping([1, 2, 3]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    tasks = await by_key(db, root_id)
    overrides = {tasks["each[1]"].id: {"inputs": {"value": 7}}}
    node = await TaskCreator(db).create_fork(tasks["root"], [], overrides)
    assert isinstance(node, TaskTreeNode)
    Mapped.calls.clear()
    outcome = await TaskExecutor().execute_task_by_id(node.task.id, db_session=db)
    assert outcome.results["after"] == [1, 7, 3]
    assert Mapped.calls == [7, [1, 7, 3]]


async def test_what_apflow_writes_of_a_tree_can_be_created_again():
    db, root_id = await tree_of(mapping([1, 2, 3]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    array = as_array(await db.tree(root_id))
    again = await TaskCreator(MemoryStore()).create_task_tree_from_array(array)
    assert [node.task.key for node in again.walk()] == [
        "root",
        "list",
        "each",
        "each[0]",
        "each[1]",
        "each[2]",
        "after",
    ]
    stored = check_array(regions(), get_settings())
    assert check_array(as_array(stored), get_settings())[0].policy == stored[0].policy


async def test_elements_are_neither_added_nor_deleted_by_hand_and_their_template_stays():
    db, root_id = await tree_of(mapping([1, 2]))
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    tasks = await db.tree(root_id)
    found = {each.key: each for each in tasks}
    with pytest.raises(ConflictError, match="it is an element of 'each'"):
        plan_deletion(tasks, found["each[0]"].id, force=True)
    new = Task(id="new", name="new", root_id=root_id, parent_id=found["each"].id)
    with pytest.raises(InvalidInputError, match="only the elements of its list are in it"):
        plan_addition(new, {each.id: each for each in tasks})
    with pytest.raises(ConflictError, match="its elements exist"):
        plan_update(tasks, found["each"].id, {"inputs": {"value": 1}}, get_settings())
    plan_update(tasks, found["each"].id, {"label": "x"}, get_settings())


# --- what is refused, and said ---------------------------------------------------------------------


def element(inputs: dict[str, Any], **more: Any) -> Json:
    return {"items": [], "tasks": [{"name": "a", "inputs": inputs} | more]}


@pytest.mark.parametrize(
    ("for_each", "words"),
    [
        ({}, "for_each must have items"),
        ({"items": 3}, "for_each.items must be a list"),
        ({"items": {"$from": "list", "jmespath": "rows"}}, "for_each.items must be a list"),
        ({"items": [], "batch": 0}, "for_each.batch must be an integer from 1"),
        ({"items": [], "max_parallel": "4"}, "for_each.max_parallel must be an integer"),
        ({"items": [], "allow_failures": 1.5}, "for_each.allow_failures must be a share from 0 to below 1"),
        ({"items": [], "allow_failures": -1}, "for_each.allow_failures"),
        ({"items": [], "collect": "no"}, "for_each.collect must be true or false"),
        ({"items": [], "max_item": 3}, "for_each has no key 'max_item'. Did you mean 'max_items'?"),
        ({"items": [1, 2], "max_items": 1}, "for_each.items has 2 items, more than max_items, 1"),
        ({"items": {"$from": "lst"}}, "$from names 'lst', which is not a dependency. Did you mean 'list'?"),
        ({"items": {"$item": "x"}}, "no task with for_each contains it"),
        ({"items": [], "tasks": []}, "for_each.tasks must be an array of tasks"),
        ({"items": [], "tasks": [{"name": "a"}]}, "inputs, params and schemas are those of its tasks"),
        (
            {"items": [], "tasks": [{"name": "a"}, {"name": "b"}]},
            "for_each.tasks: a tree has exactly one root",
        ),
        (element({"v": {"$item": "("}}), "$item is not a valid JMESPath"),
        (element({"v": {"$item": "b", "of": "c"}}), ".of names 'c'"),
        (element({"v": {"$index": -1}}), "$index must be the number"),
        (
            element({}, name="each", for_each={"items": {"$item": "x"}}),
            "has the name of a task with for_each around it",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_created(for_each: Json, words: str):
    array = mapping([])
    array[2]["for_each"] = for_each
    with pytest.raises(TreeInvalidError) as caught:
        check_array(array, get_settings())
    assert words in str(caught.value)
    assert "tasks[2] ('each')" in str(caught.value)


def test_an_item_is_named_only_where_there_is_one():
    with pytest.raises(
        TreeInvalidError, match=r"inputs\.value names an element, but the task has no for_each"
    ):
        check_array([task("a", {"$item": "x"})], get_settings())


def test_a_template_that_stands_below_the_task_is_refused_with_advice():
    array = [{"name": "each", "for_each": {"items": []}}, task("a", parent_id="each")]
    with pytest.raises(TreeInvalidError, match=r"The tree of an element is in for_each\.tasks"):
        check_array(array, get_settings())


def test_the_templates_are_checked_before_a_run_and_count_among_what_a_tree_touches():
    array = regions()
    array[0]["for_each"]["tasks"].append(
        {"name": "no_such", "parent_id": "region", "inputs": {"url": "http://h/"}}
    )
    tasks = check_array(array, get_settings())
    [fault] = check_runnable(tasks)
    place = "tasks[0] ('regions'): for_each.tasks 'no_such'"
    assert fault.startswith(f"{place}: no executor is called 'no_such'.")
    assert missing_executors(tasks, None, executor_is_known) == ["no_such"]
    found = capabilities_of(tasks, executor_is_known)
    assert (list(found.executors), list(found.hosts)) == (["test_mapped"], ["h"])


def test_a_task_that_has_elements_needs_no_executors_of_its_template():
    array = [{"name": "each", "for_each": {"items": [1], "tasks": [{"name": "no_such"}]}}]
    [each] = check_array(array, get_settings())
    assert missing_executors([each], None, executor_is_known) == ["no_such"]
    element = Task(id="e", name="test_mapped", root_id=each.id, parent_id=each.id)
    assert missing_executors([each, element], None, executor_is_known) == []


def test_secrets_in_the_list_and_the_template_are_shown_masked():
    array = [{"name": "each", "for_each": {
        "items": [{"password": "clear"}], "tasks": [{"name": "a", "inputs": {"api_key": "clear"}}],
    }}]  # fmt: skip
    [each] = check_array(array, get_settings())
    assert "clear" not in json.dumps(shown(each))
    assert "clear" in json.dumps(each.policy)


async def test_why_counts_the_elements():
    Mapped.gate = asyncio.Event()
    array = mapping(list(range(10)), max_parallel=2)
    array[1]["inputs"]["waits"] = False
    db, root_id = await tree_of(array)
    driving = asyncio.create_task(TaskManager(db).distribute_task_tree(await _node(db, root_id)))
    while Mapped.running < 2:
        await asyncio.sleep(0)
    tasks = await db.tree(root_id)
    found = {each.key: each for each in tasks}
    why = explain(tasks, found["each"].id, is_driven=True, is_known=executor_is_known).reasons
    assert why == ["0 of the 10 elements of its list have ended (8 pending, 2 in progress)."]
    why = explain(tasks, found["each[5]"].id, is_driven=True, is_known=executor_is_known).reasons
    assert "At most 2 elements of 'each' are in progress at once (max_parallel)." in why
    Mapped.gate.set()
    await driving


async def test_a_change_that_is_refused_leaves_no_elements():
    db, root_id = await tree_of(mapping([1, 2]))
    write = db.write
    added: list[int] = []

    async def racing(change: Change) -> Any:
        if change.add and not added:
            added.append(len(change.add))
            root = (await db.get([root_id]))[root_id]
            each = (await by_key(db, root_id))["each"]
            sets = {"cancel_requested_at": utc_now(), "status": "cancelled", "completed_at": utc_now()}
            await write(Change(moves=[Transition(each.id, root_id, {"status": "pending"}, sets)]))
            assert root.run_requested_at is not None
        return await write(change)

    db.write = racing  # type: ignore[method-assign]
    outcome = await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    assert added == [2]
    assert outcome["status"] == "cancelled"
    assert {each.key for each in await db.tree(root_id)} == {"root", "list", "each", "after"}
