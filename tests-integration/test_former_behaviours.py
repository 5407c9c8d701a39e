"""What programs that were written for aipartnerupflow rely on. Each test is named after the behaviour.

`BEHAVIOURS`, at the end, lists all of them, with the tests that are elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskRepository,
    TaskTreeNode,
    clear_hooks,
    create_session,
    executor_register,
    get_registry,
    get_task_model_class,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
)
from apflow.core.authoring.former_task import import_rows
from apflow.core.errors import (
    ConflictError,
    ForbiddenError,
    FormerDatabaseError,
    IllegalMoveError,
    InvalidInputError,
    SettingsError,
)
from apflow.core.payload.secrets import mask
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings, check_former_variables, read_settings
from apflow.core.store.base import TaskQuery, TaskStore


class Steps(BaseTask):
    """Returns its inputs, or fails on request."""

    id = "former_steps"
    calls: ClassVar[list[str]] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task is not None
        Steps.calls.append(self.task.name)
        if inputs.get("fail"):
            raise RuntimeError("asked to")
        return {"name": self.task.name}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    Steps.calls.clear()
    executor_register(Steps, override=True)
    yield
    get_registry().unregister(Steps.id)
    clear_hooks()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=["memory", "duckdb", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TaskStore]:
    """Each of the stores, empty."""
    if request.param == "memory":
        yield MemoryStore()
        return
    url = f"duckdb:///{tmp_path / 't.duckdb'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    async with create_session(url) as opened:
        yield opened


METHOD = {"method": Steps.id}


# --- add_child ------------------------------------------------------------------------------------


async def test_add_child_of_a_task_that_was_created_without_a_parent_runs_it(store: TaskStore):
    tasks = TaskRepository(store)
    root = await tasks.create_task("root", schemas=METHOD)
    alone = await tasks.create_task("alone", schemas=METHOD)
    grandchild = await tasks.create_task("grandchild", parent_id=alone.id, schemas=METHOD)
    node = TaskTreeNode(root)
    node.add_child(TaskTreeNode(alone))
    done = await TaskManager(store).distribute_task_tree(node)
    assert done["status"] == "completed"
    assert sorted(Steps.calls) == ["alone", "grandchild", "root"]
    stored = {task.id: task for task in await store.tree(root.id)}
    assert stored[alone.id].parent_id == root.id
    assert stored[grandchild.id].parent_id == alone.id
    assert [child.task.name for child in done.children] == ["alone"]
    events = await store.events(root.id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert {event.task_id for event in events if event.type == "task_completed"} == {*stored}
    again = await TaskExecutor().execute_task_by_id(root.id, db_session=store, force=True)
    assert again["status"] == "completed"


async def test_add_child_at_several_levels_with_dependencies_between_the_trees(db: MemoryStore):
    tasks = TaskRepository(db)
    first = await tasks.create_task("first", schemas=METHOD)
    second = await tasks.create_task("second", schemas=METHOD, dependencies=[first.id])
    third = await tasks.create_task(
        "third", schemas=METHOD, dependencies=[{"id": second.id, "required": True}]
    )
    root = TaskTreeNode(
        await tasks.create_task("root", user_id="ann", dependencies=[third.id], schemas=METHOD)
    )
    middle = TaskTreeNode(second)
    middle.add_child(TaskTreeNode(first))
    root.add_child(middle)
    root.add_child(TaskTreeNode(third))
    done = await TaskManager(db).distribute_task_tree(root)
    assert done["status"] == "completed"
    assert Steps.calls == ["first", "second", "third", "root"]
    assert {task.user_id for task in await db.tree(root.task.id)} == {"ann"}


async def _refused(db: MemoryStore, root: TaskTreeNode, says: str) -> None:
    before = [task.to_dict() for task in await db.tree(root.task.id)]
    with pytest.raises(InvalidInputError, match=says):
        await TaskManager(db).distribute_task_tree(root)
    assert Steps.calls == []
    assert [task.to_dict() for task in await db.tree(root.task.id)] == before


async def test_add_child_of_what_cannot_join_is_refused_with_the_reason(db: MemoryStore):
    tasks = TaskRepository(db)
    root = await tasks.create_task("root", user_id="ann", schemas=METHOD)
    of_another_user = await tasks.create_task("hers", user_id="eve")
    other = await tasks.create_task("other", user_id="ann")
    inside = await tasks.create_task("inside", parent_id=other.id)
    has_run = await tasks.create_task("has_run", user_id="ann", schemas=METHOD)
    await TaskExecutor().execute_task_by_id(has_run.id, db_session=db)
    Steps.calls.clear()
    never_stored = has_run.copy()
    never_stored.id, never_stored.root_id, never_stored.created_at = "new", root.id, None
    for child, says in [
        (of_another_user, "belongs to user 'eve'"),
        (inside, "not the root of a stored tree"),
        (has_run, "it has run"),
        (never_stored, "not stored"),
    ]:
        node = TaskTreeNode(root)
        node.add_child(TaskTreeNode(child))
        await _refused(db, node, says)


async def test_dependencies_outside_the_tree_are_stored_and_named_when_it_runs(db: MemoryStore):
    tasks = TaskRepository(db)
    other = await tasks.create_task("other", schemas=METHOD)
    root = await tasks.create_task("root", schemas=METHOD, dependencies=[{"id": other.id, "required": True}])
    child = await tasks.create_task("child", parent_id=root.id, schemas=METHOD, dependencies=[other.id])
    assert root.dependencies == [{"id": other.id, "required": True}]
    answer = await TaskExecutor().execute_task_by_id(root.id, db_session=db)
    assert answer["status"] == "failed"
    assert other.id in answer["error"]
    assert "add_child" in answer["error"]
    assert Steps.calls == []
    assert {task.status for task in await db.tree(root.id)} == {"failed"}
    assert (await tasks.get_task_by_id(child.id)).result["error_type"] == "TreeInvalid"


async def test_on_tree_created_is_sent_for_trees_of_create_task_at_their_first_run(db: MemoryStore):
    created: list[tuple[str, int]] = []
    register_task_tree_hook(
        "on_tree_created", lambda root, tree: created.append((root.name, len([*tree.walk()])))
    )
    tasks = TaskRepository(db)
    root = await tasks.create_task("grown", schemas=METHOD)
    await tasks.create_task("child", parent_id=root.id, schemas=METHOD)
    assert created == []
    await TaskExecutor().execute_task_by_id(root.id, db_session=db)
    await TaskExecutor().execute_task_by_id(root.id, db_session=db, force=True)
    await TaskExecutor().execute_tasks([{"name": "array", "schemas": METHOD}], db_session=db)
    assert created == [("grown", 2), ("array", 1)]


# --- marking by hand ------------------------------------------------------------------------------


async def _tree(db: TaskStore, **first: Any) -> None:
    await TaskCreator(db).create_task_tree_from_array([
        {"id": "g", "name": "group"},
        {"id": "a", "name": "a", "parent_id": "g", "schemas": METHOD, **first},
        {"id": "b", "name": "b", "parent_id": "g", "schemas": METHOD, "dependencies": ["a"]},
    ])  # fmt: skip


async def test_a_pending_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store)
    marked = await TaskRepository(store).update_task_status(
        "a", status="completed", result={"n": 1}, by="ann"
    )
    assert (marked.status, marked.result, marked.progress) == ("completed", {"n": 1}, 1.0)
    assert marked.completed_at is not None
    event = (await store.events("g"))[-1]
    assert (event.type, event.task_id, event.data) == ("task_marked", "a", {"by": "ann", "from": "pending"})
    assert event.result == {"n": 1}
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["b"])
    assert (await store.get(["b"]))["b"].status == "completed"


async def test_a_failed_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store, inputs={"fail": True})
    assert (await TaskExecutor().execute_task_by_id("g", db_session=store))["status"] == "failed"
    marked = await TaskRepository(store).update_task_status("a", status="completed")
    assert (marked.status, marked.result, marked.error) == ("completed", None, None)
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["a", "b"])
    assert {task.status for task in await store.tree("g")} == {"completed"}


async def test_a_cancelled_task_is_marked_as_completed_and_its_dependents_go_on(store: TaskStore):
    await _tree(store)
    assert (await TaskManager(store).cancel_task("a"))["status"] == "cancelled"
    marked = await TaskRepository(store).update_task_status("a", status="completed", result=[1])
    assert (marked.status, marked.cancel_requested_at) == ("completed", None)
    answer = await TaskExecutor().execute_task_by_id("g", db_session=store)
    assert (answer["status"], Steps.calls) == ("completed", ["b"])


async def test_no_task_is_marked_while_a_run_is_requested_or_when_it_has_completed(db: MemoryStore):
    await _tree(db)
    await TaskService(db).execute("g")
    with pytest.raises(ConflictError, match="a run of its tree is requested"):
        await TaskRepository(db).update_task_status("a", status="completed")
    assert (await db.get(["a"]))["a"].status == "pending"
    await TaskManager(db).cancel_task("g")
    await TaskRepository(db).update_task_status("a", status="completed")
    with pytest.raises(IllegalMoveError):
        await TaskRepository(db).update_task_status("a", status="completed")


async def test_tasks_update_marks_a_task_together_with_other_fields(db: MemoryStore):
    await _tree(db)
    service = TaskService(db, "ann", is_admin=True)
    shown = await service.update("a", name="renamed", status="completed", result={"n": 2})
    assert (shown["name"], shown["status"], shown["result"]) == ("renamed", "completed", {"n": 2})
    event = (await db.events("g"))[-1]
    assert (event.type, event.data) == ("task_marked", {"by": "ann", "from": "pending"})
    with pytest.raises(InvalidInputError, match="only together with a change"):
        await service.update("a", result={"n": 3})
    with pytest.raises(InvalidInputError, match="by hand"):
        await service.update("b", status="failed")
    assert (await service.get("b"))["status"] == "pending"


# --- output is accepted as input ------------------------------------------------------------------


def _without_times(task: dict[str, Any]) -> dict[str, Any]:
    names = ("name", "priority", "inputs", "params", "schemas", "policy", "dependencies", "parent_id")
    return {name: task[name] for name in names}


@pytest.mark.parametrize("outcome", ["pending", "completed", "failed"])
async def test_an_array_of_to_dict_is_accepted_back(db: MemoryStore, outcome: str):
    await _tree(db, inputs={"fail": outcome == "failed"}, priority=1, policy={"timeout": 5})
    if outcome != "pending":
        await TaskExecutor().execute_task_by_id("g", db_session=db)
    Steps.calls.clear()
    array = [task.to_dict() for task in await db.tree("g")]
    fresh = MemoryStore()
    node = await TaskCreator(fresh).create_task_tree_from_array(array)
    created = [each.task.to_dict() for each in node.walk()]
    assert [_without_times(task) for task in created] == [_without_times(task) for task in array]
    is_done = outcome == "completed"
    assert {task["status"] for task in created} == {"completed" if is_done else "pending"}
    if is_done:
        assert [task["result"] for task in created] == [task["result"] for task in array]
    # In the same database the ids are taken: the array gets new ones.
    copied = await TaskCreator(db).create_task_tree_from_array(array)
    assert copied.ids["a"] != "a"


async def test_a_tree_as_tasks_tree_returns_it_is_accepted_back(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    again = await service.create([await service.tree("g")])
    assert [child["name"] for child in again["children"]] == ["a", "b"]
    assert again["children"][1]["dependencies"][0]["id"] == again["children"][0]["id"]
    nested = {"name": "r", "children": [{"name": "x", "children": [{"name": "y", "dependencies": ["x"]}]}]}
    by_name = await service.create(nested)
    assert by_name["children"][0]["children"][0]["name"] == "y"


async def test_a_task_as_tasks_get_returns_it_is_accepted_by_tasks_update(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    task = await service.get("a")
    shown = await OPERATIONS["tasks.update"].call(service, task | {"name": "renamed"})
    assert (shown["name"], shown["status"]) == ("renamed", "pending")
    with pytest.raises(InvalidInputError, match="parent_id cannot be changed"):
        await OPERATIONS["tasks.update"].call(service, task | {"parent_id": "b"})
    stored = await db.get(["a"])
    updated = await TaskRepository(db).update_task("a", **(stored["a"].to_dict() | {"priority": 0}))
    assert updated.priority == 0


async def test_a_dependency_by_name_and_its_type_are_accepted_in_arrays(db: MemoryStore):
    array = [
        {"id": "r", "name": "root", "schemas": METHOD},
        {"id": "1", "name": "one", "parent_id": "r", "schemas": METHOD},
        {"id": "2", "name": "two", "parent_id": "r", "schemas": METHOD,
         "inputs": {"x": {"$from": "one"}, "y": {"$from": "1"}},
         "dependencies": [{"name": "one", "type": "result", "required": True}]},
    ]  # fmt: skip
    node = await TaskCreator(db).create_task_tree_from_array(array)
    task = node.children[1].task
    assert task.dependencies == [{"id": "1", "required": True, "name": "one"}]
    assert task.inputs == {"x": {"$from": "1"}, "y": {"$from": "1"}}
    assert (await TaskManager(db).distribute_task_tree(node))["status"] == "completed"
    array[2]["name"] = "one"
    with pytest.raises(InvalidInputError, match="2 tasks of the array have that name"):
        await TaskCreator(MemoryStore()).create_task_tree_from_array(array)


# --- copies ---------------------------------------------------------------------------------------


async def test_the_copy_of_a_root_is_its_whole_tree_and_of_another_task_itself(db: MemoryStore):
    await _tree(db)
    stored = await db.get(["g", "a"])
    whole = await TaskCreator(db).create_task_copy(stored["g"])
    assert sorted(node.task.name for node in whole.walk()) == ["a", "b", "group"]
    alone = await TaskCreator(db).create_task_copy(stored["a"])
    assert sorted(node.task.name for node in alone.walk()) == ["a", "group"]
    bare = await TaskCreator(db).create_task_copy(stored["g"], children=False)
    assert [node.task.name for node in bare.walk()] == ["group"]
    service = TaskService(db)
    assert [child["name"] for child in (await service.copy("g"))["children"]] == ["a", "b"]
    started = await service.execute("g", copy_execution=True, wait=True)
    assert sorted(Steps.calls) == ["a", "b"]
    assert started["original_task_id"] == "g"


async def test_custom_include_children_copies_what_is_below_the_chosen_tasks(db: MemoryStore):
    array = [
        {"id": "g", "name": "group"},
        {"id": "m", "name": "middle", "parent_id": "g"},
        {"id": "x", "name": "inside", "parent_id": "m"},
        {"id": "o", "name": "other", "parent_id": "g"},
    ]
    node = await TaskCreator(db).create_task_tree_from_array(array)
    for include, names in [(False, ["group", "middle"]), (True, ["group", "inside", "middle"])]:
        copied = await TaskCreator(db).create_task_copy(
            node.task, copy_mode="custom", custom_task_ids=["m"], custom_include_children=include
        )
        assert sorted(each.task.name for each in copied.walk()) == names


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [["g", "unknown"], "g,unknown", ["g, unknown"]])
async def test_one_unknown_id_has_a_row_of_its_own(db: MemoryStore, ids: Any):
    await _tree(db)
    service = TaskService(db)
    for name in ("tasks.running.status", "tasks.cancel"):
        known, unknown = await OPERATIONS[name].call(service, {"task_ids": ids})
        assert (known["task_id"], unknown["task_id"], unknown["status"]) == ("g", "unknown", "not_found")
        assert known["status"] in ("pending", "cancelled")


async def test_rows_of_status_say_whether_and_since_when_the_tree_runs(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    [before] = await service.status(["g"])
    assert (before["context_id"], before["is_running"], before["started_at"]) == ("g", False, None)
    await service.execute("g")
    assert [row["is_running"] for row in await service.status(["g"])] == [True]
    await TaskManager(db).cancel_task("g")
    await TaskExecutor().execute_task_by_id("g", db_session=db)
    [after, child] = await service.status(["g", "a"])
    assert (after["is_running"], after["progress"], child["context_id"]) == (False, 1.0, "g")
    assert after["started_at"]
    assert after["updated_at"]
    assert child["started_at"]


async def test_cancelling_an_unknown_task_returns_failed(db: MemoryStore):
    answer = await TaskManager(db).cancel_task("unknown")
    assert answer["status"] == "failed"
    assert "unknown" in answer["message"]


# --- streams --------------------------------------------------------------------------------------


async def test_the_last_event_of_a_stream_is_final_and_no_other(db: MemoryStore):
    await _tree(db)
    service = TaskService(db)
    requested = await service.execute("g", use_streaming=True)
    assert (requested["status"], requested["streaming"]) == ("started", True)
    await TaskManager(db).cancel_task("g")
    told: list[dict[str, Any]] = []
    await TaskExecutor().execute_task_by_id("g", True, told.append, db_session=db)
    for events in (told, [event async for event in service.watch("g")]):
        assert events[-1]["final"] is True
        assert events[-1]["type"] == "tree_completed"
        assert not any(event.get("final") for event in events[:-1])


# --- executors and hooks --------------------------------------------------------------------------


class Former(BaseTask):
    """Written for the former base class."""

    id = "former_task"
    inputs_schema: ClassVar[Any] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
    }

    def __init__(self, inputs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(inputs=inputs, **kwargs)

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return {"n": inputs["n"]}


def test_base_task_takes_what_the_former_base_class_took():
    made = Former(inputs={"n": 1}, task_id="t", user_id="ann", cancellation_checker=lambda: True)
    assert (made.inputs, made.task_id, made.user_id) == ({"n": 1}, "t", "ann")
    assert made.cancellation_checker is not None
    assert made.cancellation_checker()
    assert (list(made.tags), list(made.examples), made.type, made.version) == ([], [], "", "")
    assert made.metadata == {}
    assert not made.category
    assert made.check_input_schema()
    assert made.validate_input_schema({"n": 2})
    made.set_inputs({"n": "x"})
    assert not made.check_input_schema()
    with pytest.raises(InvalidInputError, match=r"inputs\.n"):
        made.validate_input_schema()
    assert Steps(inputs={"a": 1}).inputs == {"a": 1}
    assert Steps().inputs == {}
    assert get_registry().create_executor_instance(Steps.id, inputs={"b": 2}).inputs == {"b": 2}


async def test_params_that_an_executor_does_not_take_still_fail_its_task(db: MemoryStore):
    task = {"name": "x", "schemas": METHOD, "params": {"inputs": {}, "colour": "red"}}
    answer = await TaskExecutor().execute_tasks([task], db_session=db)
    assert answer["status"] == "failed"
    assert "colour" in answer["error"] or "inputs" in answer["error"]


async def test_every_form_of_the_decorators_of_hooks_works(db: MemoryStore):
    heard: list[str] = []

    @register_pre_hook()
    def before(task: Any) -> None:
        heard.append(f"pre {task.name}")

    @register_post_hook()
    async def after(task: Any, inputs: dict[str, Any], result: Any) -> None:
        heard.append(f"post {task.name}")

    @register_task_tree_hook("on_tree_completed")
    def done(root: Any, status: str) -> None:
        heard.append(f"done {status}")

    register_pre_hook(before)  # once more: it is called once
    await TaskExecutor().execute_tasks([{"name": "x", "schemas": METHOD}], db_session=db)
    assert heard == ["pre x", "post x", "done completed"]
    assert callable(before)
    assert callable(after)
    assert callable(done)


async def test_executor_register_takes_a_factory_and_hooks_of_the_executor(db: MemoryStore):
    heard: list[str] = []

    class Made(BaseTask):
        id = "former_made"

        def __init__(self, colour: str) -> None:
            super().__init__()
            self.colour = colour

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return self.colour

    executor_register(
        factory=lambda shade="dark": Made(f"{shade} red"),
        pre_hook=lambda task: heard.append(f"pre {task.name}"),
        post_hook=lambda task, inputs, result: heard.append(f"post {result}"),
    )(Made)
    try:
        array = [
            {"id": "r", "name": "r", "schemas": METHOD, "dependencies": ["m"]},
            {
                "id": "m",
                "name": "m",
                "parent_id": "r",
                "schemas": {"method": Made.id},
                "params": {"shade": "light"},
            },
        ]
        answer = await TaskExecutor().execute_tasks(array, db_session=db)
        wrong = await TaskExecutor().execute_tasks(
            [{"name": "w", "schemas": {"method": Made.id}, "params": {"size": 1}}], db_session=db
        )
    finally:
        get_registry().unregister(Made.id)
    assert answer["status"] == "completed"
    assert (await db.get(["m"]))["m"].result == "light red"
    assert heard[:2] == ["pre m", "post light red"]
    assert "pre r" not in heard
    assert "size" in wrong["error"]


async def test_aggregate_called_directly_aggregates_what_it_is_given():
    from apflow.executor.aggregate import AggregateResultsExecutor

    answer = await AggregateResultsExecutor().execute({"a": {"x": 1}, "b": {"y": 2}})
    assert (answer["results"], answer["result_count"]) == ({"a": {"x": 1}, "b": {"y": 2}}, 2)
    merged = await AggregateResultsExecutor(inputs={}).execute(
        {"mode": "merge", "a": {"x": 1}, "b": {"y": 2}}
    )
    assert merged["results"] == {"x": 1, "y": 2}


def test_http_accepts_lower_case_methods_and_the_former_form_of_an_api_key():
    from apflow.executor.http import RestExecutor
    from apflow.executor.http.request import read_request

    former = {"type": "apikey", "key": "X-Key", "value": "s3cret-value", "location": "header"}
    inputs = {"url": "https://example.com/", "method": "post", "auth": former}
    RestExecutor().validate_input_schema(inputs)
    request = read_request(inputs, None)
    assert (request.http.method, request.http.headers["X-Key"]) == ("POST", "s3cret-value")
    in_query = read_request(inputs | {"auth": former | {"location": "query", "key": "k"}}, None)
    assert in_query.http.url.params["k"] == "s3cret-value"
    assert mask({"auth": former})["auth"]["value"] == "***"


def test_the_task_model_class_is_task_model_unless_another_one_is_chosen():
    from apflow.storage.sql import TaskModel

    assert get_task_model_class() is TaskModel


async def test_system_health_says_what_the_former_one_said(db: MemoryStore):
    health = await TaskService(db).health()
    assert (health["status"], health["running_tasks_count"]) == ("healthy", 0)
    assert health["message"]
    assert health["version"]
    assert health["timestamp"]


async def test_keys_for_language_models_are_of_a_user_and_named_by_provider(db: MemoryStore):
    ann, admin = TaskService(db, "ann"), TaskService(db, "root", is_admin=True)
    await ann.set_llm_key("sk-1", "openai", user_id="ann")
    await admin.set_llm_key("sk-2", "anthropic", user_id="ann")
    found = await admin.get_llm_key("openai", user_id="ann")
    assert found == {"provider": "openai", "has_key": True, "providers": {"anthropic": True, "openai": True}}
    with pytest.raises(ForbiddenError):
        await ann.get_llm_key(user_id="eve")
    for provider in ("openai", "anthropic"):
        assert (await ann.delete_llm_key(provider))["success"]
    assert (await ann.get_llm_key())["providers"] == {}


# --- environment ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "name", "value"),
    [
        ({"JWT_SECRET_KEY": "s" * 40}, "jwt_secret", "s" * 40),
        ({"JWT_ALGORITHM": "HS512"}, "jwt_algorithms", ("HS512",)),
        ({"BASE_URL": "https://flow.example"}, "public_url", "https://flow.example"),
        ({"API_HOST": "0.0.0.0", "API_PORT": "9000"}, "bind", "0.0.0.0:9000"),
        ({"API_HOST": "::1"}, "bind", "[::1]:8000"),
        ({"API_PORT": "9000"}, "bind", "127.0.0.1:9000"),
        ({"CORS_ALLOW_ALL": "true"}, "cors_origins", ("*",)),
        ({"CORS_ALLOW_ALL": "false"}, "cors_origins", ()),
        ({"DB_PATH": "/data/old.duckdb"}, "database_url", "duckdb:////data/old.duckdb"),
        ({"TASK_TABLE_NAME": "apflow_tasks"}, "database_url", None),
        ({"TASK_MODEL_CLASS": "models:Mine"}, "task_model_class", "models:Mine"),
        ({"LOG_LEVEL": "DEBUG"}, "log_level", "DEBUG"),
        ({"LLM_PROVIDER": "openai", "LLM_MODEL": "gpt"}, "log_level", "WARNING"),
    ],
)
def test_variables_of_the_former_name_are_aliases(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, value: Any
):
    for each, text in variables.items():
        monkeypatch.setenv(f"AIPARTNERUPFLOW_{each}", text)
    settings = read_settings()
    check_former_variables(os.environ)
    if not (name == "database_url" and value is None):
        assert getattr(settings, name) == value
    present = {"bind": "127.0.0.1:1", "jwt_secret": "p" * 40}
    if name in present:
        monkeypatch.setenv(f"APFLOW_{name.upper()}", present[name])
        assert getattr(read_settings(), name) == present[name]


@pytest.mark.parametrize(
    "name", ["JWT_PUBLIC_KEY", "AUTH_ENABLED", "API_TOKENS", "REQUIRE_TOKEN", "CORS_ORIGIN_LIST"]
)
def test_a_former_variable_about_callers_that_is_not_understood_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, name: str
):
    from apflow.server import create_app

    monkeypatch.setenv(f"AIPARTNERUPFLOW_{name}", "x")
    with pytest.raises(SettingsError, match=rf"AIPARTNERUPFLOW_{name}.*APFLOW_JWT_SECRET"):
        create_app(Settings(), db=MemoryStore())


@pytest.mark.parametrize("prefix", ["AIPARTNERUPFLOW_", ""])
@pytest.mark.parametrize("name", ["STDIO_ALLOW_COMMAND", "STDIO_COMMAND_WHITELIST"])
def test_the_former_variables_of_commands_name_the_present_one(
    monkeypatch: pytest.MonkeyPatch, prefix: str, name: str
):
    monkeypatch.setenv(f"{prefix}{name}", "1")
    with pytest.warns(UserWarning, match=f"{name}.*APFLOW_COMMAND_ALLOW"):
        read_settings()


def test_another_table_name_is_refused_and_not_ignored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIPARTNERUPFLOW_TASK_TABLE_NAME", "my_tasks")
    with pytest.raises(SettingsError, match="my_tasks"):
        read_settings()


# --- several roots --------------------------------------------------------------------------------

SEVERAL: list[dict[str, Any]] = [
    {"id": "r1", "name": "one", "schemas": METHOD},
    {"id": "c2", "name": "below two", "parent_id": "r2", "schemas": METHOD},
    {"id": "r2", "name": "two", "schemas": METHOD},
    {"id": "c1", "name": "below one", "parent_id": "r1", "schemas": METHOD, "inputs": {"fail": True}},
]


async def test_an_array_with_several_roots_runs_each_tree_and_lists_them(db: MemoryStore):
    answer = await TaskExecutor().execute_tasks(SEVERAL, db_session=db)
    assert [(each["root_task_id"], each["status"]) for each in answer["trees"]] == [
        ("r1", "failed"), ("r2", "completed"),
    ]  # fmt: skip
    assert answer["status"] == "failed"
    assert "below one" in answer["error"]
    assert sorted(Steps.calls) == ["below one", "below two", "one", "two"]
    assert answer["result"]["r2"] == {"name": "two"}
    by_name = [{"name": "x", "schemas": METHOD}, {"name": "y", "schemas": METHOD}]
    assert len((await TaskExecutor().execute_tasks(by_name, db_session=db))["trees"]) == 2


async def test_nothing_is_created_where_one_of_several_trees_is_wrong(db: MemoryStore):
    wrong = [*SEVERAL, {"id": "x", "name": "x", "parent_id": "nobody"}]
    for array in (wrong, [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "dependencies": ["a"]}]):
        with pytest.raises(InvalidInputError):
            await TaskExecutor().execute_tasks(array, db_session=db)
    assert await db.find(TaskQuery()) == []
    assert Steps.calls == []


# --- a database of the former system --------------------------------------------------------------

FORMER_TABLE = """
CREATE TABLE apflow_tasks (
    id VARCHAR(255) PRIMARY KEY, parent_id VARCHAR(255), user_id VARCHAR(255), name VARCHAR(255) NOT NULL,
    status VARCHAR(50), priority INTEGER, dependencies JSON, inputs JSON, params JSON, schemas JSON,
    result JSON, error TEXT, progress {float}, created_at TIMESTAMP WITH TIME ZONE,
    started_at TIMESTAMP WITH TIME ZONE,
    updated_at TIMESTAMP WITH TIME ZONE, completed_at TIMESTAMP WITH TIME ZONE, has_children BOOLEAN,
    original_task_id VARCHAR(255), has_copy BOOLEAN, department VARCHAR(100)
)"""
FORMER_ROWS = """
INSERT INTO apflow_tasks (id, parent_id, user_id, name, status, priority, dependencies, inputs, schemas,
                          result, error, progress, created_at, completed_at, department) VALUES
 ('g', NULL, 'ann', 'group', 'failed', 1, NULL, '{}', NULL, NULL, 'a child failed', 0.5,
  '2025-01-01 10:00:00+00', '2025-01-01 11:00:00+00', 'sales'),
 ('a', 'g', 'ann', 'first', 'completed', 1, '[]', '{"n": 1}', '{"method": "former_steps", "type": "stdio"}',
  '{"answer": 42}', NULL, 1.0, '2025-01-01 10:00:01+00', '2025-01-01 10:30:00+00', NULL),
 ('b', 'g', 'ann', 'second', 'in_progress', 2, '[{"id": "a", "required": true, "type": "result"}]', NULL,
  '{"method": "former_steps"}', NULL, NULL, 0.3, '2025-01-01 10:00:02+00', NULL, NULL),
 ('alone', NULL, NULL, 'alone', 'pending', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"""


def _former_file(path: Path) -> Path:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute(FORMER_TABLE.format(float="DOUBLE"))
        connection.execute(FORMER_ROWS)
    return path


async def _check_imported(db: TaskStore, rows: list[dict[str, Any]]) -> None:
    imported = await import_rows(db, rows)
    assert (imported.trees, imported.tasks, imported.refused) == (2, 4, {})
    assert imported.ignored_columns == ["department"]
    tree = {task.id: task for task in await db.tree("g")}
    assert {task.id: str(task.status) for task in tree.values()} == {
        "g": "failed",
        "a": "completed",
        "b": "pending",
    }
    assert (tree["a"].result, tree["a"].inputs, tree["a"].user_id) == ({"answer": 42}, {"n": 1}, "ann")
    assert tree["b"].dependencies == [{"id": "a", "required": True}]
    assert tree["g"].has_children
    assert tree["g"].created_at == datetime(2025, 1, 1, 10, tzinfo=UTC)
    assert (await import_rows(db, rows)).skipped == ["alone", "g"]
    answer = await TaskExecutor().execute_task_by_id("g", db_session=db)
    assert (answer["status"], Steps.calls) == ("completed", ["second"])


async def test_a_former_duckdb_file_is_recognised_left_alone_and_imported(tmp_path: Path):
    from apflow.storage.duckdb.former import read_former

    path = _former_file(tmp_path / "old.duckdb")
    before = path.read_bytes()
    async with create_session(f"duckdb:///{path}") as old:
        with pytest.raises(FormerDatabaseError, match=r"apflow db import .*old\.duckdb"):
            await old.get(["g"])
    assert path.read_bytes() == before
    async with create_session(f"duckdb:///{tmp_path / 'new.duckdb'}") as db:
        await _check_imported(db, read_former(path))
    assert path.read_bytes() == before
    with pytest.raises(InvalidInputError, match="a database of apflow itself"):
        read_former(tmp_path / "new.duckdb")
    with pytest.raises(InvalidInputError, match="has no table 'other'"):
        read_former(path, "other")
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_former(tmp_path / "nothing.duckdb")


async def test_a_former_postgresql_database_is_recognised_left_alone_and_imported(
    postgres_url: str, tmp_path: Path
):
    import asyncpg

    from apflow.storage.postgres.former import read_former

    connection = await asyncpg.connect(postgres_url)
    await connection.execute(FORMER_TABLE.format(float="DOUBLE PRECISION"))
    await connection.execute(FORMER_ROWS)
    async with create_session(postgres_url) as old:
        with pytest.raises(FormerDatabaseError, match="apflow db import"):
            await old.get(["g"])
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row[0] for row in tables] == ["apflow_tasks"]
    await connection.close()
    async with create_session(f"duckdb:///{tmp_path / 'new.duckdb'}") as db:
        await _check_imported(db, await read_former(postgres_url))


async def test_rows_with_few_columns_and_strange_values_are_imported_or_named(db: MemoryStore):
    rows: list[dict[str, Any]] = [
        {"id": "bare", "name": "bare"},
        {
            "id": "child",
            "parent_id": "gone",
            "name": "x",
            "status": "DONE",
            "progress": "?",
            "created_at": "?",
        },
        {"id": "bad", "name": "bad", "inputs": "not json"},
        {"id": "c1", "name": "c1", "parent_id": "c2"},
        {"id": "c2", "name": "c2", "parent_id": "c1"},
    ]
    imported = await import_rows(db, rows)
    assert imported.trees == 2
    assert set(imported.refused) == {"bad", "c1"}
    assert "column inputs" in imported.refused["bad"]
    assert "contain each other" in imported.refused["c1"]


# --- all of them ----------------------------------------------------------------------------------

HERE = "tests-integration/test_former_behaviours.py"
NAMES = "packages/aipartnerupflow/tests/test_members.py"
OPTIONS = "packages/apflow-cli/tests/test_former_options.py"
UNKNOWN = "packages/apflow-server/tests/test_unknown_executor.py"
# Behaviour -> where it is tested: file, and functions.
BEHAVIOURS: dict[str, tuple[str, str]] = {
    "a run with an unknown executor fails": (UNKNOWN, "test_a_run_that_is_waited_for_ends"),
    "one such child does not hold the tree": (UNKNOWN, "test_one_such_child_does_not_hold_the_tree"),
    "its stream ends": (UNKNOWN, "test_a_stream_ends_with_the_final_event"),
    "add_child of another root": (
        HERE,
        "test_add_child_of_a_task_that_was_created_without_a_parent_runs_it "
        "test_add_child_at_several_levels_with_dependencies_between_the_trees "
        "test_add_child_of_what_cannot_join_is_refused_with_the_reason",
    ),
    "dependencies on tasks outside": (
        HERE, "test_dependencies_outside_the_tree_are_stored_and_named_when_it_runs",
    ),
    "output given back": (
        HERE,
        "test_an_array_of_to_dict_is_accepted_back test_a_tree_as_tasks_tree_returns_it_is_accepted_back "
        "test_a_task_as_tasks_get_returns_it_is_accepted_by_tasks_update",
    ),
    "dependencies by name": (HERE, "test_a_dependency_by_name_and_its_type_are_accepted_in_arrays"),
    "copies of whole trees": (
        HERE,
        "test_the_copy_of_a_root_is_its_whole_tree_and_of_another_task_itself "
        "test_custom_include_children_copies_what_is_below_the_chosen_tasks",
    ),
    "copies by mode": (NAMES, "test_copies_are_made_by_their_mode"),
    "marking by hand": (
        HERE,
        "test_a_pending_task_is_marked_as_completed_and_its_dependents_go_on "
        "test_a_failed_task_is_marked_as_completed_and_its_dependents_go_on "
        "test_a_cancelled_task_is_marked_as_completed_and_its_dependents_go_on "
        "test_no_task_is_marked_while_a_run_is_requested_or_when_it_has_completed "
        "test_tasks_update_marks_a_task_together_with_other_fields",
    ),
    "unknown ids among others": (
        HERE,
        "test_one_unknown_id_has_a_row_of_its_own "
        "test_rows_of_status_say_whether_and_since_when_the_tree_runs",
    ),
    "several roots": (
        HERE,
        "test_an_array_with_several_roots_runs_each_tree_and_lists_them "
        "test_nothing_is_created_where_one_of_several_trees_is_wrong",
    ),
    "several roots of run flow": (OPTIONS, "test_short_options_and_several_roots_of_run_flow"),
    "the constructor of BaseTask": (
        HERE,
        "test_base_task_takes_what_the_former_base_class_took "
        "test_params_that_an_executor_does_not_take_still_fail_its_task",
    ),
    "forms of hooks and of executor_register": (
        HERE,
        "test_every_form_of_the_decorators_of_hooks_works "
        "test_executor_register_takes_a_factory_and_hooks_of_the_executor "
        "test_on_tree_created_is_sent_for_trees_of_create_task_at_their_first_run",
    ),
    "credentials and methods of HTTP": (
        HERE, "test_http_accepts_lower_case_methods_and_the_former_form_of_an_api_key",
    ),
    "aggregating directly": (HERE, "test_aggregate_called_directly_aggregates_what_it_is_given"),
    "variables": (
        HERE,
        "test_variables_of_the_former_name_are_aliases "
        "test_a_former_variable_about_callers_that_is_not_understood_stops_the_server "
        "test_the_former_variables_of_commands_name_the_present_one "
        "test_another_table_name_is_refused_and_not_ignored",
    ),
    "databases": (
        HERE,
        "test_a_former_duckdb_file_is_recognised_left_alone_and_imported "
        "test_a_former_postgresql_database_is_recognised_left_alone_and_imported "
        "test_rows_with_few_columns_and_strange_values_are_imported_or_named",
    ),
    "system.health": (HERE, "test_system_health_says_what_the_former_one_said"),
    "keys for language models": (HERE, "test_keys_for_language_models_are_of_a_user_and_named_by_provider"),
    "the end of streams": (HERE, "test_the_last_event_of_a_stream_is_final_and_no_other"),
    "the end of webhooks": (
        "packages/apflow-server/tests/test_delivery.py", "test_the_last_event_that_is_delivered_is_final",
    ),
    "the answer to a streaming run": (HERE, "test_a_streaming_run_answers_that_it_started"),
    "cancelling what is unknown": (HERE, "test_cancelling_an_unknown_task_returns_failed"),
    "get_task_model_class": (
        HERE, "test_the_task_model_class_is_task_model_unless_another_one_is_chosen",
    ),
    "commands and options": (
        OPTIONS,
        "test_tasks_are_created_updated_and_watched test_short_options_and_several_roots_of_run_flow "
        "test_each_protocol_that_the_server_speaks_is_accepted",
    ),
}  # fmt: skip


async def test_a_streaming_run_answers_that_it_started(db: MemoryStore):
    await _tree(db)
    answer = await TaskService(db).execute("g", use_streaming=True)
    assert (answer["status"], answer["streaming"]) == ("started", True)
    plain = await TaskService(MemoryStore()).execute(tasks=[{"id": "x", "name": "x", "schemas": METHOD}])
    assert plain["status"] != "started"
    assert "streaming" not in plain


def test_every_behaviour_has_its_tests_and_every_test_here_is_of_a_behaviour():
    root = Path(__file__).parents[1]
    of_this_file: set[str] = set()
    for file, functions in BEHAVIOURS.values():
        defined = set(re.findall(r"(?m)^(?:async )?def (test_\w+)\(", (root / file).read_text()))
        assert {*functions.split()} <= defined, file
        of_this_file |= {*functions.split()} if file == HERE else set()
    here = set(re.findall(r"(?m)^(?:async )?def (test_\w+)\(", Path(__file__).read_text()))
    assert here - of_this_file == {
        test_every_behaviour_has_its_tests_and_every_test_here_is_of_a_behaviour.__name__
    }
