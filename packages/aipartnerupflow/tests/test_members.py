"""The members of classes, and the functions, that programs of the former system call, on a memory store."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from aipartnerupflow import (
    BaseTask,
    Extension,
    ExtensionCategory,
    StorageExtension,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskRepository,
    TaskTreeNode,
    Tool,
    add_executor_hook,
    clear_config,
    create_session,
    executor_register,
    get_default_session,
    get_post_hooks,
    get_pre_hooks,
    get_registry,
    get_require_existing_tasks,
    get_task_model_class,
    get_task_tree_hooks,
    get_use_task_creator,
    hook_register,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
    set_require_existing_tasks,
    set_use_task_creator,
    storage_register,
    task_model_register,
    tool_register,
)
from aipartnerupflow.core.extensions import (
    ExecutorLike,
    HookExtension,
    get_all_executor_metadata,
    get_executor_metadata,
    validate_task_format,
)
from aipartnerupflow.core.storage import create_pooled_session, reset_default_session, set_default_session
from aipartnerupflow.core.storage.factory import (
    configure_database,
    is_postgresql_url,
    normalize_postgresql_url,
)
from aipartnerupflow.core.storage.sqlalchemy.models import TaskModel
from aipartnerupflow.core.tools import get_tool_registry, register_tool, resolve_tool
from aipartnerupflow.core.utils.helpers import tree_node_to_dict
from aipartnerupflow.core.utils.logger import get_logger
from apflow.core import MemoryStore, TaskQuery
from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Task
from apflow.core.settings import reset_settings


class Member(BaseTask):
    """Returns its inputs; needs `n`."""

    id = "member"
    type = "of_tests"
    inputs_schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    async def execute(self, inputs: dict[str, int]) -> dict[str, int]:
        if inputs["n"] < 0:
            raise ValueError("negative")
        return dict(inputs)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    executor_register(Member, override=True)
    yield
    get_registry().unregister(Member.id)
    reset_default_session()
    clear_config()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


async def tree(db: MemoryStore) -> TaskTreeNode:
    return await TaskCreator(db).create_task_tree_from_array([
        {"id": "r", "name": "member", "user_id": "ann", "inputs": {"n": 1}},
        {"id": "a", "name": "member", "user_id": "ann", "parent_id": "r", "priority": 3, "inputs": {"n": 2}},
        {"id": "b", "name": "member", "user_id": "ann", "parent_id": "r", "priority": 0, "inputs": {"n": -1}},
        {"id": "c", "name": "member", "user_id": "ann", "parent_id": "a", "inputs": {"n": 4}},
    ])  # fmt: skip


def ids(tasks: object) -> list[str]:
    return [task.id for task in tasks]


async def test_a_repository_reads_trees_as_the_former_one_did(db: MemoryStore):
    root = await tree(db)
    tasks = TaskRepository(db)
    assert tasks.db is db
    assert ids(await tasks.get_child_tasks_by_parent_id("r")) == ["b", "a"]
    assert await tasks.get_child_tasks_by_parent_id("none") == []
    assert ids(await tasks.get_all_tasks_in_tree(root.task)) == ["r", "a", "b", "c"]
    below = await tasks.get_task_by_id("a")
    assert ids(await tasks.get_all_tasks_in_tree(below)) == ["a", "c"]
    await TaskManager(db).distribute_task_tree(root)
    assert set(await tasks.get_completed_tasks_by_ids(["r", "b", "c", "none"])) == {"r", "c"}


async def test_query_tasks_takes_the_former_filters(db: MemoryStore):
    await tree(db)
    tasks = TaskRepository(db)
    await tasks.create_task("of_eve", user_id="eve", id="e")
    assert ids(await tasks.query_tasks(user_id="eve")) == ["e"]
    assert ids(await tasks.query_tasks(parent_id="r", order_by="priority")) == ["b", "a"]
    assert ids(await tasks.query_tasks(parent_id="")) == ["e", "r"]
    assert ids(await tasks.query_tasks(parent_id="", order_desc=False)) == ["r", "e"]
    assert ids(await tasks.query_tasks(status="pending", limit=2, offset=1, order_desc=False)) == ["a", "b"]
    with pytest.raises(InvalidInputError, match="-priority"):
        await tasks.query_tasks(order_by="priority", order_desc=True)


async def test_a_hierarchy_of_new_tasks_is_saved_as_a_tree(db: MemoryStore):
    root = TaskTreeNode(Task(id="new", root_id="new", name="member", inputs={"n": 1}))
    child = TaskTreeNode(Task(id="below", root_id="below", name="member", inputs={"n": 2}))
    root.add_child(child)
    assert await TaskRepository(db).save_task_hierarchy_to_database(root)
    assert (child.task.parent_id, child.task.root_id) == ("new", "new")
    assert ids(await db.tree("new")) == ["new", "below"]
    assert (await TaskManager(db).distribute_task_tree(root))["status"] == "completed"


async def test_a_hierarchy_below_a_stored_task_joins_its_tree(db: MemoryStore):
    tasks = TaskRepository(db)
    root = TaskTreeNode(await tasks.create_task("member", id="stored", inputs={"n": 1}))
    root.add_child(TaskTreeNode(await tasks.create_task("member", id="alone", inputs={"n": 2})))
    assert await tasks.save_task_hierarchy_to_database(root)
    assert ids(await db.tree("stored")) == ["stored", "alone"]


async def test_the_class_of_custom_columns_is_chosen_by_each_former_way(db: MemoryStore):
    from sqlalchemy import Column, String

    class First(TaskModel):
        __tablename__ = "apflow_tasks"
        project = Column(String(20))

    class Second(TaskModel):
        __tablename__ = "apflow_tasks"
        team = Column(String(20))

    tasks = TaskRepository(db, task_model_class=First)
    assert get_task_model_class() is First
    assert (await tasks.create_task("x", project="p")).project == "p"
    assert task_model_register()(Second) is Second
    assert get_task_model_class() is Second
    TaskRepository(db)
    assert get_task_model_class() is Second
    clear_config()
    assert get_task_model_class() is TaskModel


async def test_copies_are_made_by_their_mode(db: MemoryStore):
    await tree(db)
    below = await TaskRepository(db).get_task_by_id("a")
    creator = TaskCreator(db)

    async def originals(node: TaskTreeNode) -> list[str]:
        return [task.original_task_id for task in creator.tree_to_flat_list(node)]

    assert await originals(await creator.create_task_copy_minimal(below)) == ["r", "a"]
    assert await originals(await creator.create_task_copy_minimal(below, children=True)) == ["r", "a", "c"]
    assert await originals(await creator.create_task_copy_full(below)) == ["r", "a", "c", "b"]
    chosen = await creator.create_task_copy_custom(below, ["r", "a"], custom_include_children=False)
    assert await originals(chosen) == ["r", "a"]


async def test_the_hooks_of_a_manager_are_seen_and_called(db: MemoryStore):
    called: list[str] = []
    manager = TaskManager(
        db,
        pre_hooks=[lambda task: called.append(f"before {task.id}")],
        post_hooks=[lambda task, inputs, result: called.append(f"after {task.id}")],
    )
    assert (len(manager.pre_hooks), len(manager.post_hooks)) == (1, 1)
    manager.pre_hooks.append(lambda task: called.append(f"second {task.id}"))
    task = await manager.task_repository.create_task("member", id="t", inputs={"n": 1})
    await manager.distribute_task_tree(TaskTreeNode(task))
    assert called == ["before t", "second t", "after t"]


async def test_an_executor_says_what_it_runs_and_tracks(db: MemoryStore):
    executor = TaskExecutor()
    is_running, is_over = asyncio.Event(), asyncio.Event()

    class Waits(BaseTask):
        id = "member"

        async def execute(self, inputs: dict[str, int]) -> None:
            is_running.set()
            await is_over.wait()

    executor_register(Waits, override=True)
    async with asyncio.TaskGroup() as group:
        array = [{"id": "root", "name": "member"}]
        group.create_task(executor.execute_tasks(array, root_task_id="key", db_session=db))
        await is_running.wait()
        assert executor.get_task_status("key") == {"task_id": "key", "context_id": "root", "is_running": True}
        assert (executor.get_all_running_tasks(), executor.get_running_tasks_count()) == (["key"], 1)
        await executor.start_task_tracking("elsewhere")
        assert executor.is_task_running("elsewhere")
        assert executor.get_all_running_tasks() == ["key", "elsewhere"]
        await executor.stop_task_tracking("elsewhere")
        is_over.set()
    assert executor.get_running_tasks_count() == 0
    assert executor.get_task_status("key") == {"task_id": "key", "context_id": "key", "is_running": False}


def test_the_registry_lists_by_category_type_and_id():
    @hook_register()
    class Bell(HookExtension):
        id = "member_bell"

    @storage_register
    class Shelf(StorageExtension):
        id = "member_shelf"

        async def save_task(self, task: Task) -> None: ...

        async def get_task(self, task_id: str) -> None: ...

    registry = get_registry()
    try:
        assert registry.get_hooks() == [Bell]
        assert registry.get_storage("member_shelf") is Shelf
        assert registry.get_all_by_category(ExtensionCategory.STORAGE) == [Shelf]
        assert issubclass(Bell, Extension)
        assert registry.get_by_type(ExtensionCategory.EXECUTOR, "of_tests") is Member
        assert registry.get_by_type(ExtensionCategory.EXECUTOR, "of_nothing") is None
        assert registry.get_executor("member") is Member
        assert registry.get_executor("member_bell") is None
        assert Member in registry.list_executors()
        assert {"member", "member_bell", "member_shelf", "system_info_executor"} <= {
            *registry.list_registered()
        }
        made = registry.create_executor_instance("member", inputs={"n": 1})
        assert (type(made), made.inputs) == (Member, {"n": 1})
    finally:
        registry.unregister("member_bell")
        registry.unregister("member_shelf")
    assert registry.is_registered("member")
    assert registry.is_registered("system_info_executor")  # installed, and not registered in code
    assert not registry.is_registered("member_bell")


def test_executors_are_described_and_tasks_checked_against_them():
    assert get_executor_metadata("member")["input_schema"] == Member.inputs_schema
    assert get_all_executor_metadata()["member"] == get_executor_metadata("member")
    assert validate_task_format({"name": "member", "inputs": {"n": 1}})
    assert validate_task_format({"name": "x", "schemas": {"method": "member"}, "inputs": {"n": 1}})
    assert not validate_task_format({"name": "member", "inputs": {"n": "one"}})
    assert not validate_task_format({"name": "member"})
    assert not validate_task_format({"name": "no_such_executor"})
    assert isinstance(Member(), ExecutorLike)
    assert not isinstance(object(), ExecutorLike)


def test_tools_are_registered_and_resolved():
    class Hammer(Tool):
        id = "member_hammer"

        async def execute(self, inputs: dict[str, int]) -> str:
            return "hit"

    register_tool(Hammer, "member_first")
    tool_register(Hammer())
    try:
        assert isinstance(resolve_tool("member_first"), Hammer)
        assert isinstance(resolve_tool(Hammer), Hammer)
        assert isinstance(get_tool_registry().get("member_hammer"), Hammer)
        assert {"member_first", "member_hammer"} <= {*get_tool_registry().list_tools()}
        with pytest.raises(InvalidInputError, match="No tool is called 'member_saw'"):
            resolve_tool("member_saw")
    finally:
        for each in ("member_first", "member_hammer"):
            get_registry().unregister(each)


async def test_hooks_are_listed_and_those_of_one_executor_see_only_its_tasks(db: MemoryStore):
    called: list[str] = []
    pre = register_pre_hook(lambda task: None)
    post = register_post_hook(lambda task, inputs, result: None)
    of_tree = register_task_tree_hook("on_tree_started", lambda root: None)
    assert (get_pre_hooks(), get_post_hooks()) == ([pre], [post])
    assert get_task_tree_hooks("on_tree_started") == [of_tree]
    assert get_task_tree_hooks("on_tree_failed") == []
    with pytest.raises(InvalidInputError, match="no tree event"):
        get_task_tree_hooks("on_tree_planted")
    add_executor_hook("member", "pre_hook", lambda task: called.append(task.id))
    add_executor_hook("member", "post_hook", lambda task, inputs, result: called.append(result["n"]))
    with pytest.raises(InvalidInputError, match="hook_type"):
        add_executor_hook("member", "sideways", print)
    array = [
        {"id": "g", "name": "group"},
        {"id": "m", "name": "member", "parent_id": "g", "inputs": {"n": 3}},
        {"id": "s", "name": "aggregate_results_executor", "parent_id": "g"},
    ]
    await TaskExecutor().execute_tasks(array, db_session=db)
    assert called == ["m", 3]
    clear_config()
    assert get_pre_hooks() == get_post_hooks() == get_task_tree_hooks("on_tree_started") == []


def test_a_switch_accepts_what_is_always_so_and_refuses_the_rest():
    set_use_task_creator(True)
    set_require_existing_tasks(False)
    assert (get_use_task_creator(), get_require_existing_tasks()) == (True, False)
    with pytest.raises(InvalidInputError, match="Leave the call out"):
        set_use_task_creator(False)
    with pytest.raises(InvalidInputError, match="execute_task_by_id"):
        set_require_existing_tasks(True)


async def test_the_default_session_can_be_chosen(db: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_DATABASE_URL", "memory://of_settings")
    reset_settings()
    set_default_session(db)
    assert get_default_session() is db
    assert TaskManager().db is db
    assert (await TaskExecutor().execute_tasks([{"name": "member", "inputs": {"n": 1}}]))["result"] == {
        "n": 1
    }
    assert len(await db.find(TaskQuery())) == 1
    reset_default_session()
    assert get_default_session() is create_session("memory://of_settings")
    async with create_pooled_session("memory://of_settings") as pooled:
        assert pooled is get_default_session()
    assert not pooled.is_closed
    reset_settings()


def test_a_database_is_named_by_its_file_or_its_url(tmp_path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "t.duckdb"
    assert create_session(path=file) is create_session(f"duckdb:///{file}")
    with pytest.raises(InvalidInputError, match="not several"):
        create_session("memory://", path=file)
    monkeypatch.setenv("APFLOW_DATABASE_URL", "memory://")
    configure_database(path=file)
    assert os.environ["APFLOW_DATABASE_URL"] == f"duckdb:///{file}"
    assert create_session() is create_session(path=file)
    configure_database("memory://configured")
    assert create_session().url == "memory://configured"
    for wrong in ({}, {"connection_string": "memory://", "path": file}):
        with pytest.raises(InvalidInputError, match="either connection_string or path"):
            configure_database(**wrong)
    reset_settings()


def test_urls_of_postgresql_are_recognised_and_put_in_one_form():
    for scheme in ("postgresql", "postgres", "postgresql+asyncpg"):
        assert is_postgresql_url(f"{scheme}://u@h/d")
        assert normalize_postgresql_url(f"{scheme}://u@h/d") == "postgresql://u@h/d"
    assert not is_postgresql_url("duckdb:///postgresql")
    assert normalize_postgresql_url("duckdb:///x") == "duckdb:///x"


async def test_helpers_show_trees_and_give_loggers(db: MemoryStore):
    shown = tree_node_to_dict(await tree(db))
    assert [each["id"] for each in shown["children"]] == ["a", "b"]
    assert get_logger("mine").name == "mine"
    assert get_logger().name == "aipartnerupflow"


def test_keys_of_users_are_those_that_model_calls_use():
    from aipartnerupflow.extensions.llm_key_config import LLMKeyConfigManager
    from apflow.core.service.llm_keys import llm_key

    keys = LLMKeyConfigManager()
    keys.set_key(user_id="member", api_key="sk-1")
    keys.set_key("member", "sk-2", provider="anthropic")
    assert (llm_key("member", "openai"), llm_key("member", "anthropic")) == ("sk-1", "sk-2")
    assert LLMKeyConfigManager().get_key("member", "anthropic") == "sk-2"
    assert keys.delete_key("member")
    assert keys.delete_key("member", "anthropic")
    assert not keys.has_key("member")
    assert keys.get_key("member", "anthropic") is None
