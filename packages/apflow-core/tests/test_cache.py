"""Results that tasks take from other tasks: what decides them, how long, whose, and what is never cached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskService,
    executor_register,
    get_registry,
    recover,
    register_post_hook,
    register_pre_hook,
)
from apflow.core.errors import TreeInvalidError
from apflow.core.extensions.hooks import clear_hooks
from apflow.core.model.event import EventType
from apflow.core.model.limit import RECORDS
from apflow.core.model.task import Task, utc_now
from apflow.core.payload.cache_key import cache_key
from apflow.core.settings import overridden_defaults
from apflow.core.store.base import Change, TaskStore, Transition

Json = Any


class Counts(BaseTask):
    """Returns how often it was called, and its inputs."""

    id = "counts"
    version = "1"
    calls = 0

    def __init__(self, unit: str = "") -> None:
        super().__init__()
        self.unit = unit

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Counts.calls += 1
        await asyncio.sleep(0)
        if inputs.get("fails"):
            raise ValueError("no")
        if inputs.get("large"):
            return {"text": "x" * inputs["large"]}
        return {"call": Counts.calls, "city": inputs.get("city")}


class Pays(Counts):
    """Does something that must not be left out."""

    id = "pays"
    effect = "once"


@pytest.fixture(autouse=True)
async def _clean() -> AsyncIterator[None]:
    Counts.calls, Counts.version = 0, "1"
    executor_register()(Counts)
    executor_register()(Pays)
    yield
    get_registry().unregister("counts")
    get_registry().unregister("pays")


def task(cache: Json = None, *, name: str = "a", method: str = "counts", **more: Json) -> dict[str, Json]:
    policy = {**({"cache": cache} if cache is not None else {}), **more.pop("policy", {})}
    return {"name": name, "schemas": {"method": method}, "policy": policy, **more}


async def run(db: TaskStore, *tasks: Json, user: str | None = None, **options: Json) -> list[Task]:
    outcome = await TaskExecutor().execute_tasks(list(tasks), db_session=db, user_id=user, **options)
    return await db.tree(outcome["root_task_id"])


async def test_a_task_takes_the_result_of_one_that_did_the_same(db: TaskStore):
    [first] = await run(db, task({}, inputs={"city": "Oslo", "days": 3}))
    [second] = await run(db, task({}, inputs={"days": 3, "city": "Oslo"}))
    assert Counts.calls == 1
    assert (second.status, second.result, second.cached_from) == ("completed", first.result, first.id)
    assert (first.cached_from, second.attempts) == (None, 1)
    [ended] = [each for each in await db.events(second.root_id) if each.type is EventType.TASK_COMPLETED]
    assert ended.data == {"cached_from": first.id}
    [third] = await run(db, task({}, inputs={"city": "Oslo", "days": 3}))
    assert third.cached_from == first.id  # not the second, so that a result does not stay young
    service = TaskService(db)
    assert (await service.get(second.id))["cached_from"] == first.id
    why = await service.why(second.id)
    assert why["reasons"][1] == f"Its executor was not called: task {first.id} had done the same before."


@pytest.mark.parametrize(
    "other",
    [
        task({}, inputs={"city": "Rome"}),
        task({}, inputs={"city": "Oslo", "more": None}),
        task({}, inputs={"city": "Oslo"}, params={"unit": "K"}),
        task({}, inputs={"city": "Oslo"})
        | {"schemas": {"method": "counts", "output_schema": {"type": "object"}}},
        task(inputs={"city": "Oslo"}),
    ],
    ids=["value", "name", "params", "schemas", "without cache"],
)
async def test_a_task_that_does_something_else_calls_its_executor(other: Json):
    db = MemoryStore()
    await run(db, task({}, inputs={"city": "Oslo"}))
    [second] = await run(db, other)
    assert (Counts.calls, second.cached_from) == (2, None)


async def test_another_name_or_way_to_name_the_executor_does_not_matter():
    db = MemoryStore()
    await run(db, task({}, inputs={"city": "Oslo"}))
    other = task({}, name="other", inputs={"city": "Oslo"}) | {
        "schemas": {},
        "params": {"executor_id": "counts"},
    }
    await run(db, other)
    assert Counts.calls == 1


async def test_another_version_of_the_executor_is_called():
    db = MemoryStore()
    await run(db, task({}))
    Counts.version = "2"
    await run(db, task({}))
    assert Counts.calls == 2


async def test_results_of_dependencies_count_but_not_their_ids():
    db = MemoryStore()

    def tree(city: str) -> list[Json]:
        return [
            {"name": "root"},
            task(name="first", parent_id="root", inputs={"city": city}, policy={"effect": "pure"}),
            task({"key": "first.city"}, name="second", parent_id="root", dependencies=["first"]),
            task({}, name="third", parent_id="root", dependencies=["second"]),
        ]

    await run(db, *tree("Oslo"))
    assert Counts.calls == 3
    tasks = await run(db, *tree("Oslo"))
    assert Counts.calls == 4  # the first has no cache
    assert [bool(each.cached_from) for each in tasks] == [False, False, True, True]
    await run(db, *tree("Rome"))
    assert Counts.calls == 7


async def test_a_key_chooses_what_decides():
    db = MemoryStore()
    await run(db, task({"key": "city"}, inputs={"city": "Oslo", "now": 1}))
    await run(db, task({"key": "city"}, inputs={"city": "Oslo", "now": 2}))
    assert Counts.calls == 1
    await run(db, task({"key": ["city", "now"]}, inputs={"city": "Oslo", "now": 2}))
    await run(db, task({"key": ["city", "now"]}, inputs={"city": "Oslo", "now": 3}))
    assert Counts.calls == 3
    await run(db, task({"key": "town"}, inputs={"city": "Oslo"}))
    await run(db, task({"key": "town"}, inputs={"city": "Rome"}))
    assert Counts.calls == 5  # what finds nothing would be the same key for everything


async def test_a_result_can_be_too_old():
    db = MemoryStore()
    [first] = await run(db, task({"ttl": "1h"}))
    await run(db, task({"ttl": "1h"}))
    assert Counts.calls == 1
    old = utc_now() - timedelta(minutes=59)
    await db.write(Change(moves=[Transition(first.id, first.id, {}, {"completed_at": old})]))
    await run(db, task({"ttl": 3600}))
    assert Counts.calls == 1
    await run(db, task({"ttl": 3500}))
    assert Counts.calls == 2
    await run(db, task({"ttl": 3500}))  # takes the new one
    assert Counts.calls == 2


async def test_no_user_gets_the_results_of_another():
    db = MemoryStore()
    for user in (None, "ann", "bob", "ann", "bob", None):
        await run(db, task({}), user=user)
    assert Counts.calls == 3


async def test_only_what_completed_is_cached():
    db = MemoryStore()
    for _ in range(2):
        await run(db, task({}, inputs={"fails": True}))
    assert Counts.calls == 2


async def test_a_task_that_acts_once_always_runs():
    db = MemoryStore()
    for _ in range(2):
        await run(db, task({}, method="pays"))
    assert Counts.calls == 2
    [pure] = await run(db, task({}, method="pays", policy={"effect": "pure"}))
    await run(db, task({}, method="pays", policy={"effect": "pure"}))
    assert (Counts.calls, pure.cached_from) == (3, None)


async def test_a_run_without_the_cache_calls_executors_and_renews_it():
    db = MemoryStore()
    await run(db, task({}))
    [second] = await run(db, task({}), no_cache=True)
    assert (Counts.calls, second.cached_from) == (2, None)
    [third] = await run(db, task({}))
    assert (Counts.calls, third.cached_from) == (2, second.id)


async def test_a_submitted_run_keeps_that_it_ignores_the_cache():
    db = MemoryStore()
    await run(db, task({}))
    for no_cache, calls in ((True, 2), (False, 2)):
        root = await TaskService(db).submit([task({})], no_cache=no_cache)
        assert await recover(db) == [root["id"]]
        assert Counts.calls == calls


async def test_force_takes_nothing_from_the_cache_and_a_later_run_does():
    db = MemoryStore()
    [first] = await run(db, task({}))
    [second] = await run(db, task({}))
    await TaskExecutor().execute_task_by_id(second.id, force=True, db_session=db)
    assert Counts.calls == 2
    assert (await db.get([second.id]))[second.id].cached_from is None
    await TaskManager(db).distribute_task_tree(await TaskCreator(db).create_task_tree_from_array([task({})]))
    assert Counts.calls == 2
    await TaskExecutor().execute_task_by_id(first.id, force=True, db_session=db)
    assert Counts.calls == 3


async def test_a_deleted_source_leaves_a_link_that_does_no_harm_and_no_entry():
    db = MemoryStore()
    [first] = await run(db, task({}))
    [second] = await run(db, task({}))
    service = TaskService(db)
    await service.delete(first.id, force=True)
    assert (await service.get(second.id))["cached_from"] == first.id
    assert (await service.why(second.id))["status"] == "completed"
    [third] = await run(db, task({}))
    assert (Counts.calls, third.cached_from) == (2, None)


async def test_a_hit_takes_no_place_and_calls_no_hooks():
    db = MemoryStore()
    called: list[str] = []
    limit = {"key": "k", "rate": "1/day", "concurrency": 1}
    await run(db, task({}, policy={"limit": limit}))
    before = (await db.records(RECORDS))[0].version

    async def pre(task: Task) -> None:
        called.append("pre")

    async def post(task: Task, inputs: Json, result: Json) -> None:
        called.append("post")

    register_pre_hook(pre)
    register_post_hook(post)
    try:
        [second] = await run(db, task({}, policy={"limit": limit}))
    finally:
        clear_hooks()
    assert (Counts.calls, called, second.status) == (1, [], "completed")
    assert (await db.records(RECORDS))[0].version == before


async def test_a_result_that_is_too_large_by_now_is_not_taken():
    db = MemoryStore()
    await run(db, task({}, inputs={"large": 2000}))
    with overridden_defaults(max_result_bytes=1000):
        [second] = await run(db, task({}, inputs={"large": 2000}))
    assert (Counts.calls, second.status) == (2, "failed")


async def test_many_hits_are_taken_in_order_and_not_held_in_memory_at_once():
    db = MemoryStore()

    def tree() -> list[Json]:
        return [
            {"name": "root"},
            *(
                task({}, name=f"t{number}", parent_id="root", inputs={"city": str(number)})
                for number in range(200)
            ),
        ]

    await run(db, *tree())
    tasks = await run(db, *tree())
    assert Counts.calls == 200
    assert [each.result["city"] for each in tasks[1:]] == [str(number) for number in range(200)]


async def test_a_reference_that_finds_nothing_fails_the_task_as_without_a_cache():
    db = MemoryStore()
    wrong = {"x": {"$from": "a", "path": "nothing.here"}}
    tasks = await run(
        db,
        {"name": "root"},
        task(name="a", parent_id="root"),
        task({}, name="b", parent_id="root", dependencies=["a"], inputs=wrong),
    )
    assert tasks[2].status == "failed"
    assert "finds nothing" in str(tasks[2].error)


def test_a_key_has_secrets_as_references_only():
    """The key is made without the value of a secret; a changed name gives another one."""
    one = Task(id="t", name="t", root_id="t", executor="x", policy={"cache": {}})
    keys = {cache_key(one, "", {"token": {"$secret": name}}, {}) for name in ("A", "B")}
    assert len(keys) == 2
    assert all(len(key or "") == 64 for key in keys)


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ({"cache": True}, "policy.cache must be an object"),
        ({"cache": {"age": 1}}, "policy.cache has no key 'age'"),
        ({"cache": {"ttl": 0}}, "policy.cache.ttl must be a number of seconds above 0"),
        ({"cache": {"ttl": "soon"}}, "policy.cache.ttl must be"),
        ({"cache": {"ttl": True}}, "policy.cache.ttl must be"),
        ({"cache": {"ttl": "0s"}}, "policy.cache.ttl must be"),
        ({"cache": {"key": "a["}}, "policy.cache.key is not a valid JMESPath expression"),
        ({"cache": {"key": []}}, "policy.cache.key must have 1 to 20 expressions"),
        ({"cache": {"key": [1]}}, "policy.cache.key must be a JMESPath expression over the inputs"),
        ({"cache": {}, "effect": "once"}, "policy.cache cannot go with the effect 'once'"),
    ],
)
async def test_a_cache_that_cannot_be_is_refused(policy: Json, fault: str):
    with pytest.raises(TreeInvalidError) as refused:
        await TaskCreator(MemoryStore()).create_task_tree_from_array([task(policy=policy)])
    assert fault in str(refused.value)


async def test_a_plan_names_cached_results_and_limits():
    db, limit = MemoryStore(), {"key": "k", "rate": "1/s"}
    [first] = await run(db, task({}, inputs={"city": "Oslo"}))
    planned = await TaskService(db).plan(
        [
            {"name": "root"},
            task({}, name="a", parent_id="root", inputs={"city": "Oslo"}, policy={"limit": limit}),
            task({}, name="b", parent_id="root", inputs={"city": "Rome"}),
            task({}, name="c", parent_id="root", dependencies=["a"]),
        ]
    )
    steps = {each["key"]: each for each in planned["tasks"]}
    assert {key: each["cached_from"] for key, each in steps.items()} == {"a": first.id, "b": None, "c": None}
    assert (steps["a"]["expected_seconds"], steps["a"]["limit"], steps["b"]["limit"]) == (0.0, limit, None)
