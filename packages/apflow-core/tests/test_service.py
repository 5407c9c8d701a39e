from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from apflow.core.engine.worker import Worker
from apflow.core.errors import (
    AlreadyRunningError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    TreeInvalidError,
)
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import get_registry
from apflow.core.model.ids import ids_of_key
from apflow.core.service.llm_keys import MAX_PER_USER
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService, as_array
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore


class Echo(BaseTask):
    id = "service_echo"
    name = "Echo"
    description = "Returns its inputs."

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"echo": inputs}


class Broken(BaseTask):
    id = "service_broken"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("broken")


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    for each in (Echo, Broken):
        get_registry().register(each)
    yield
    for each in (Echo, Broken):
        get_registry().unregister(each.id)


@pytest.fixture
def service() -> TaskService:
    return TaskService(MemoryStore())


TREE = [
    {"id": "r", "name": "root"},
    {"id": "a", "name": "a", "parent_id": "r", "schemas": {"method": "service_echo"}, "inputs": {"x": 1}},
    {"id": "b", "name": "b", "parent_id": "r", "schemas": {"method": "service_echo"}, "dependencies": ["a"]},
]


async def test_a_tree_is_created_nested_with_the_ids_that_were_given(service: TaskService):
    created = await service.create(TREE)
    assert [each["id"] for each in created["children"]] == ["a", "b"]
    assert created["ids"] == {"r": "r", "a": "a", "b": "b"}


async def test_a_taken_id_gives_the_whole_tree_new_ones_and_tells_them(service: TaskService):
    await service.create(TREE)
    again = await service.create(TREE)
    assert again["id"] == again["ids"]["r"] != "r"
    assert again["children"][1]["dependencies"] == [{"id": again["ids"]["a"], "required": True}]


async def test_a_refused_array_leaves_nothing(service: TaskService):
    with pytest.raises(TreeInvalidError):
        await service.create([*TREE, {"id": "c", "name": "c", "parent_id": "nobody"}])
    assert await service.count() == {"total": 0, "by_status": dict.fromkeys(service_statuses(), 0)}


def service_statuses() -> list[str]:
    return ["pending", "in_progress", "completed", "failed", "cancelled", "skipped"]


async def test_a_tree_is_executed_to_its_end(service: TaskService):
    await service.create(TREE)
    outcome = await service.run("r")
    assert (outcome["status"], outcome["progress"], outcome["task_id"]) == ("completed", 1.0, "r")
    assert (await service.get("b"))["result"]["echo"]["a"] == {"echo": {"x": 1}}


async def test_a_copy_is_executed_and_the_original_left_alone(service: TaskService):
    await service.create(TREE)
    outcome = await service.execute("r", wait=True, copy_execution=True, copy_children=True)
    assert outcome["original_task_id"] == "r"
    assert outcome["status"] == "completed"
    assert (await service.get("a"))["status"] == "pending"


async def test_watching_ends_with_the_final_event(service: TaskService):
    await service.create(TREE)
    await service.run("r")
    kinds = [str(event["type"]) async for event in service.watch("b", after=0)]
    assert kinds[-1] == "tree_completed"
    assert kinds.count("task_completed") == 3


async def test_watching_without_a_number_starts_with_a_snapshot(service: TaskService):
    await service.create([TREE[0] | {"params": {"token": "abcdefgh"}}, *TREE[1:]])
    await service.run("r")
    state, final = [event async for event in service.watch("b")]
    assert (state["type"], state["task_id"], state["status"]) == ("snapshot", "r", "completed")
    assert [child["id"] for child in state["data"]["children"]] == ["a", "b"]
    assert state["data"]["params"] == {"token": "***"}
    assert (final["type"], final["sequence"]) == ("tree_completed", state["sequence"] + 1)


async def test_who_knows_the_end_of_a_tree_learns_that_nothing_follows(service: TaskService):
    await service.create(TREE)
    assert (await service.follow("r", 3))[1].is_over is False
    await service.run("r")
    last = [event["sequence"] async for event in service.watch("r", after=0)][-1]
    assert (await service.follow("r", last - 1))[1].is_over is False
    state, subscription = await service.follow("r", last)
    assert (state, subscription.is_over) == (None, True)
    assert [event async for event in subscription] == []


async def test_the_status_of_a_root_is_that_of_its_tree(service: TaskService):
    await service.create([TREE[0], TREE[1] | {"schemas": {"method": "service_broken"}}])
    await service.run("r")
    [root, a] = await service.status(["r", "a"])
    assert (root["status"], root["error"]) == ("failed", "task a: broken")
    assert a["status"] == "failed"


async def test_values_under_secret_keys_are_masked_wherever_a_task_is_shown(service: TaskService):
    clear = {
        "id": "t",
        "name": "service_echo",
        "inputs": {"api_key": "sk-12345678"},
        "params": {"token": "abcdefgh"},
    }
    shown = [
        await service.create(clear),
        await service.get("t"),
        *(await service.list()),
        await service.tree("t"),
    ]
    shown += (await service.copy("t", save=False))["tasks"]
    for each in shown:
        assert (each["inputs"]["api_key"], each["params"]["token"]) == ("***", "***")
    assert (await service.db.get(["t"]))["t"].inputs == {"api_key": "sk-12345678"}


async def test_a_list_goes_on_after_the_last_task_of_the_page_before(service: TaskService):
    made = [(await service.create({"name": f"t{number}"}))["id"] for number in range(5)]
    first = await service.list(limit=2)
    await service.create({"name": "newer"})
    await service.delete(first[0]["id"])
    second = await service.list(limit=2, cursor=first[-1]["id"])
    last = await service.list(limit=2, cursor=second[-1]["id"])
    assert [task["id"] for task in [*first, *second, *last]] == made[::-1]
    with pytest.raises(NotFoundError):
        await service.list(cursor=first[0]["id"])


async def test_a_masked_value_is_not_written_back(service: TaskService):
    with pytest.raises(InvalidInputError):
        await service.create({"name": "service_echo", "inputs": {"api_key": "***"}})
    child = {"name": "service_echo", "inputs": {"api_key": "***"}}
    with pytest.raises(InvalidInputError):
        await service.create({"name": "a", "children": [child]})


async def test_a_deleted_tree_is_gone(service: TaskService):
    await service.create(TREE)
    assert await service.delete("r") == {"success": True, "task_id": "r", "deleted_count": 3}
    assert await service.db.find(TaskQuery()) == []


async def test_what_others_need_is_not_deleted(service: TaskService):
    await service.create(TREE)
    with pytest.raises(ConflictError, match=r"'b' .b. depends on 'a'"):
        await service.delete("a")


async def test_a_pending_tree_is_cancelled_and_then_there_is_nothing_left_to_cancel(service: TaskService):
    await service.create(TREE)
    [first] = await service.cancel(["r"], error_message="no longer wanted")
    [second] = await service.cancel(["r"])
    assert (first["status"], second["status"]) == ("cancelled", "failed")
    assert (await service.get("a"))["error"] == "no longer wanted"


async def test_why_names_reasons_and_advice(service: TaskService):
    await service.create([TREE[0], TREE[1] | {"schemas": {"method": "nowhere"}}])
    found = await service.why("a")
    assert found["reasons"] == ["No run of its tree is requested.", "No executor 'nowhere' is known here."]


async def test_a_prefix_stands_for_the_only_id_that_begins_with_it(service: TaskService):
    await service.create({"id": "0123456789-a", "name": "one"})
    await service.create({"id": "0123456799-b", "name": "two"})
    assert await service.find_id("012345678") == "0123456789-a"
    assert await service.find_id("0123456") == "0123456"
    with pytest.raises(InvalidInputError, match="0123456789-a, 0123456799-b"):
        await service.find_id("01234567")
    with pytest.raises(NotFoundError):
        await service.find_id("99999999")


async def test_executors_are_described_with_schema_and_origin(service: TaskService):
    [echo] = [each for each in await service.executors() if each["id"] == "service_echo"]
    assert echo == await service.executor("service_echo")
    assert (echo["name"], echo["description"], echo["is_usable"]) == ("Echo", "Returns its inputs.", True)
    assert echo["input_schema"]["type"] == "object"


# --- who may ---------------------------------------------------------------------------------------


@pytest.fixture
async def of_ann(service: TaskService) -> TaskService:
    """Ann has a tree and a schedule; the returned service is Bob's, on the same store."""
    ann = TaskService(service.db, "ann")
    await ann.create(TREE)
    await ann.create_schedule(TREE, every="1d", name="s")
    return TaskService(service.db, "bob")


NAMED = {
    "execute": {"task_id": "r"},
    "webhooks": {"task_id": "r"},
    "get": {"task_id": "r"},
    "attempts": {"task_id": "a"},
    "budget": {"task_id": "a"},
    "children": {"parent_id": "r"},
    "tree": {"task_id": "a"},
    "status": {"task_ids": ["r"]},
    "watch": {"task_id": "r"},
    "logs": {"task_id": "a"},
    "update": {"task_id": "r", "name": "mine"},
    "delete": {"task_id": "r"},
    "copy": {"task_id": "r"},
    "fork": {"task_id": "r"},
    "cancel": {"task_ids": ["a"]},
    "resume": {"task_ids": ["r"]},
    "why": {"task_id": "a"},
    "schedule": {"schedule_id": "s"},
    "next_due_times": {"schedule_id": "s"},
    "update_schedule": {"schedule_id": "s", "every": "2h"},
    "pause_schedule": {"schedule_id": "s"},
    "resume_schedule": {"schedule_id": "s"},
    "trigger_schedule": {"schedule_id": "s"},
    "delete_schedule": {"schedule_id": "s"},
    "approval": {"task_id": "r"},
    "approve": {"task_id": "r"},
    "reject": {"task_id": "r"},
}


async def answered(service: TaskService, method: str) -> Any:
    answer = getattr(service, method)(**NAMED[method])
    return await anext(answer) if isinstance(answer, AsyncIterator) else await answer


def test_every_operation_for_owners_is_tried_by_a_stranger():
    assert set(NAMED) == {each.method for each in OPERATIONS.values() if each.access == "owner"}


@pytest.mark.parametrize("method", [each for each in NAMED if each not in ("status", "cancel")])
async def test_a_foreign_task_answers_as_a_missing_one(of_ann: TaskService, method: str):
    with pytest.raises(NotFoundError) as foreign:
        await answered(of_ann, method)
    with pytest.raises(NotFoundError) as missing:
        await answered(TaskService(MemoryStore(), "bob"), method)
    assert str(foreign.value) == str(missing.value)


@pytest.mark.parametrize("method", ["status", "cancel"])
async def test_a_foreign_task_has_the_row_of_a_missing_one(of_ann: TaskService, method: str):
    foreign = await answered(of_ann, method)
    assert [row["status"] for row in foreign] == ["not_found"]
    assert foreign == await answered(TaskService(MemoryStore(), "bob"), method)


async def test_a_stranger_sees_none_of_them(of_ann: TaskService):
    assert await of_ann.list(root_only=False) == []
    assert (await of_ann.count())["total"] == 0
    with pytest.raises(NotFoundError):
        [event async for event in of_ann.watch("r")]


async def test_what_a_caller_creates_is_the_callers(of_ann: TaskService):
    created = await of_ann.create({"name": "service_echo"})
    assert created["user_id"] == "bob"


async def test_only_an_admin_acts_for_others(of_ann: TaskService):
    with pytest.raises(ForbiddenError):
        await of_ann.create({"name": "service_echo"}, user_id="ann")
    with pytest.raises(ForbiddenError):
        await of_ann.create({"name": "service_echo", "user_id": "ann"})
    nested = {"name": "b", "children": [{"name": "c", "user_id": "ann"}]}
    with pytest.raises(ForbiddenError):
        await of_ann.create({"name": "a", "children": [nested]})
    with pytest.raises(ForbiddenError):
        await of_ann.list(user_id="ann")
    with pytest.raises(ForbiddenError):
        await of_ann.resume()
    admin = TaskService(of_ann.db, "root", is_admin=True)
    assert (await admin.create({"name": "service_echo"}, user_id="ann"))["user_id"] == "ann"
    assert len(await admin.list(user_id="ann")) == 2


@pytest.mark.parametrize("tasks", [3, "tasks", [1], {"tasks": "x"}, None])
def test_tasks_that_are_not_an_array_are_rejected(tasks: Any):
    with pytest.raises(InvalidInputError, match="array of objects"):
        as_array(tasks)


def test_one_task_and_a_wrapped_array_are_arrays():
    assert as_array({"name": "a"}) == [{"name": "a"}]
    assert as_array({"tasks": [{"name": "a"}]}) == [{"name": "a"}]


async def test_a_requested_run_is_left_to_a_worker(service: TaskService):
    asked = await service.execute(tasks=TREE)
    assert (asked["status"], asked["success"], asked["ids"]["a"]) == ("pending", True, "a")
    assert (await service.count_running())["count"] == 1
    [standing] = await service.running()
    assert (standing["task_id"], standing["status"]) == ("r", "pending")
    with pytest.raises(AlreadyRunningError):
        await service.execute("r")


async def test_a_worker_of_this_process_takes_what_is_asked_for_at_once(service: TaskService):
    worker = Worker(service.db)
    served = TaskService(service.db, is_served=True)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        try:
            ended = await served.execute(tasks=TREE, wait=True)
            assert (ended["status"], ended["result"]) == (
                "completed",
                {"children": {"a": "completed", "b": "completed"}},
            )
            again = await served.execute("r", wait=True, force=True)
            assert again["status"] == "completed"
        finally:
            worker.drain()


async def test_an_awaited_run_runs_in_this_process_without_a_server(service: TaskService):
    ended = await service.execute(tasks={"name": "service_broken"}, wait=True)
    assert (ended["status"], ended["success"]) == ("failed", False)
    assert "broken" in ended["message"]


async def test_the_same_key_asks_for_a_run_once(service: TaskService):
    first = await service.execute(tasks=TREE, idempotency_key="k")
    again = await service.execute(tasks=TREE, idempotency_key="k")
    assert first["root_task_id"] == again["root_task_id"]
    assert (await service.execute(first["root_task_id"], idempotency_key="k"))["status"] == "pending"
    assert (await service.count_running())["count"] == 1


async def test_a_tree_that_another_made_under_the_ids_of_a_key_is_not_given_away(service: TaskService):
    ann, ben = TaskService(service.db, "ann"), TaskService(service.db, "ben")
    [guessed] = ids_of_key("daily", "ann", 1)
    await ben.create({"id": guessed, "name": "report", "inputs": {"bens": "own"}})
    for ask in (ann.create, ann.submit, ann.execute):
        with pytest.raises(ConflictError, match="idempotency key"):
            await ask(tasks={"name": "report"}, idempotency_key="daily")
    assert (await service.count_running())["count"] == 0


@pytest.mark.parametrize(
    "given",
    [{}, {"task_id": "r", "tasks": TREE}, {"task_id": "r", "copy_execution": True, "idempotency_key": "k"}],
)
async def test_what_is_to_run_is_said_in_one_way(service: TaskService, given: dict[str, Any]):
    await service.create(TREE)
    with pytest.raises(InvalidInputError):
        await service.execute(**given)
    assert (await service.count())["total"] == 3


async def test_fields_are_changed_together_or_not_at_all(service: TaskService):
    await service.create(TREE)
    changed = await service.update("b", name="renamed", priority=0, dependencies=[])
    assert (changed["name"], changed["priority"], changed["dependencies"]) == ("renamed", 0, [])
    with pytest.raises(InvalidInputError) as caught:
        await service.update("a", name="", priority="high")  # type: ignore[arg-type]
    assert len(caught.value.violations) == 2
    with pytest.raises(InvalidInputError, match="Nothing to change"):
        await service.update("a")
    assert (await service.get("a"))["name"] == "a"


async def test_a_masked_secret_is_not_written_back(service: TaskService):
    await service.create([{"id": "s", "name": "service_echo", "inputs": {"password": "correct horse"}}])
    shown = await service.get("s")
    assert shown["inputs"] == {"password": "***"}
    with pytest.raises(InvalidInputError):
        await service.update("s", inputs=shown["inputs"])


async def test_a_key_for_a_provider_is_the_callers_and_never_shown():
    db = MemoryStore()
    ann, bob = TaskService(db, "ann"), TaskService(db, "bob")
    assert "sk-secret" not in str(await ann.set_llm_key("sk-secret", "OpenAI"))
    assert await ann.get_llm_key() == {
        "provider": "openai",
        "has_key": True,
        "providers": {"openai": True},
    }
    assert (await bob.get_llm_key())["has_key"] is False
    assert (await bob.delete_llm_key())["success"] is False
    assert (await ann.delete_llm_key())["success"] is True
    with pytest.raises(InvalidInputError):
        await ann.set_llm_key(" ")


async def test_one_user_leaves_few_and_short_keys_and_others_still_can(service: TaskService):
    ann, bob = TaskService(service.db, "ann"), TaskService(service.db, "bob")
    try:
        for key, provider in (("k" * 10_000, "p"), ("k", "p" * 200)):
            with pytest.raises(InvalidInputError, match="at most"):
                await ann.set_llm_key(key, provider)
        for at in range(MAX_PER_USER):
            await ann.set_llm_key("k", f"provider{at}")
        with pytest.raises(InvalidInputError, match="limit"):
            await ann.set_llm_key("k", "one more")
        await ann.set_llm_key("new", "provider0")
        await bob.set_llm_key("k", "one more")
    finally:
        for at in range(MAX_PER_USER):
            await ann.delete_llm_key(f"provider{at}")
        await bob.delete_llm_key("one more")


async def test_health_and_metrics_tell_of_the_database_and_of_the_callers_tasks(service: TaskService):
    await service.create(TREE)
    assert (await service.health())["storage"] == {"kind": "memory", "is_shared": False}
    assert (await service.metrics())["tasks"]["pending"] == 3
    assert (await TaskService(service.db, "bob").metrics())["tasks"]["pending"] == 0
