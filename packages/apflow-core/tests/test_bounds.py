"""Every number that a user gives has bounds, and is refused before anything is done with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any, cast, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskManager, executor_register, get_registry
from apflow.core.authoring.field_validation import read_priority
from apflow.core.authoring.policy_validation import read_policy
from apflow.core.authoring.violation import Violations
from apflow.core.bounds import MAX_SECONDS
from apflow.core.errors import InvalidInputError, SettingsError, TreeInvalidError
from apflow.core.extensions.description import describe_executors
from apflow.core.extensions.registry import get_executor
from apflow.core.model.task import Policy, Retry, utc_now
from apflow.core.net.retry_after import read_retry_after
from apflow.core.service import parameters
from apflow.core.settings import Settings, check_setting
from apflow.core.store.base import Transition
from apflow.core.webhooks.webhook import WebhookConfig

HUGE = (1e12, 1e300, 10**30, 10**400, 2**63, math.inf, -math.inf, math.nan, True)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from(HUGE)
    | st.integers(-(10**400), 10**400)
    | st.floats(min_value=0, max_value=1e9)
)
POLICY_NUMBERS = (
    "timeout", "retry.delay", "retry.max_delay", "retry.backoff", "retry.max_attempts", "deadline",
    "cleanup_timeout",
)  # fmt: skip


def policy_with(field: str, value: object) -> dict[str, Any]:
    first, _, second = field.partition(".")
    beside = {"deadline": 60} if field == "cleanup_timeout" else {}
    return beside | {first: {second: value} if second else value}


@settings(deadline=None)
@given(st.sampled_from(POLICY_NUMBERS), numbers)
def test_a_number_of_a_policy_is_refused_or_can_be_used(field: str, value: Any):
    faults = Violations()
    policy = read_policy(policy_with(field, value), "", faults)
    if faults.found:
        assert f"policy.{field} must be" in faults.found[0]
        assert len(faults.found[0]) < 300
        return
    read = Policy.from_json(policy)
    for attempt in (1, 2, 100, 1_000_000):
        wait = read.retry.wait(attempt)
        assert 0 <= wait <= MAX_SECONDS
        assert utc_now() + timedelta(seconds=1.5 * wait) > utc_now() - timedelta(seconds=1)
    assert read.timeout is None or 0 < read.timeout <= MAX_SECONDS


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("field", POLICY_NUMBERS)
async def test_a_huge_number_of_a_policy_is_refused_at_creation_and_in_an_update(field: str, value: Any):
    db = MemoryStore()
    policy = policy_with(field, value)
    with pytest.raises(TreeInvalidError, match=f"policy.{field} must be"):
        await TaskCreator(db).create_task_tree_from_array([{"name": "a", "policy": policy}])
    tree = await TaskCreator(db).create_task_tree_from_array([{"name": "a"}])
    with pytest.raises(InvalidInputError, match=f"policy.{field} must be"):
        await TaskManager(db).task_repository.update_task(tree.task.id, policy=policy)


def test_every_number_of_a_policy_is_tested():
    found = {name for name, kind in get_type_hints(Policy).items() if is_numeric(kind)}
    found |= {f"retry.{name}" for name, kind in get_type_hints(Retry).items() if is_numeric(kind)}
    assert found == set(POLICY_NUMBERS)


def is_numeric(kind: object) -> bool:
    return bool({int, float} & {kind, *get_args(kind)})


@pytest.mark.parametrize("delay", [1e12, 1e300, 2**63])
async def test_a_stored_policy_without_bounds_does_not_end_a_run(delay: float):
    executor_register(override=True)(Flaky)
    try:
        db = MemoryStore()
        entries: list[dict[str, Any]] = [
            {"id": "root", "name": "root"},
            {"id": "flaky", "name": "flaky", "parent_id": "root", "schemas": {"method": "flaky_for_bounds"}},
            {"id": "sibling", "name": "sibling", "parent_id": "root", "dependencies": []},
        ]
        tree = await TaskCreator(db).create_task_tree_from_array(entries)
        stored = {"timeout": delay, "retry": {"max_attempts": 3, "delay": delay, "max_delay": delay}}
        await db.move([Transition("flaky", "root", {}, {"policy": stored})])
        running = asyncio.create_task(TaskManager(db).distribute_task_tree(tree))
        async with asyncio.timeout(30):
            while (await db.get(["flaky"]))["flaky"].not_before is None:
                assert not running.done()
                await asyncio.sleep(0.01)
            await TaskManager(db).cancel_task("root")
            ended = await running
        assert ended["status"] == "cancelled"
    finally:
        get_registry().unregister("flaky_for_bounds")


@pytest.mark.parametrize(
    "text",
    [
        "9" * 9,
        "9" * 5000,
        "1e400",
        "nan",
        "-1",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
    ],
)
def test_a_retry_after_is_bounded(text: str):
    read = read_retry_after(text, utc_now())
    assert read is None or 0 <= read <= MAX_SECONDS


def test_a_wait_of_a_policy_that_was_stored_without_bounds_is_bounded():
    assert Retry(delay=1e300, max_delay=1e300, backoff=1e300).wait(5) == MAX_SECONDS
    assert Retry(delay=1e12, max_delay=1e12).wait(1) == MAX_SECONDS
    assert Policy.from_json({"timeout": 1e300}).timeout == MAX_SECONDS


@settings(deadline=None)
@given(numbers)
def test_a_priority_is_refused_or_can_be_stored(value: Any):
    faults = Violations()
    read = read_priority(value, "", faults)
    assert -(2**31) <= read < 2**31
    assert faults.found or read == value


NUMBERS = [each.name for each in fields(Settings) if type(each.default) in (int, float)]


@pytest.mark.parametrize("value", [*HUGE, "1e300", "9" * 5000, "9" * 30, -1, "nan", "inf", "1e400"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_huge_number_of_a_setting_is_refused(name: str, value: object):
    with pytest.raises(SettingsError, match=r"^APFLOW_X is .{1,120}(which is not|at most)") as raised:
        check_setting(name, value, "APFLOW_X")
    assert len(str(raised.value)) < 300


def numbers_in(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the subschemas of a schema that take numbers, except those of free data."""
    if isinstance(schema, dict):
        found = cast("dict[str, Any]", schema)
        kinds = found.get("type")
        kinds = (
            cast("list[str]", kinds) if isinstance(kinds, list) else [kinds if isinstance(kinds, str) else ""]
        )
        if {"integer", "number"} & set(kinds) and "string" not in kinds and "enum" not in found:
            yield path, found
        for key, each in found.items():
            if key not in ("default", "examples", "enum", "const"):
                yield from numbers_in(each, f"{path}.{key}")
    elif isinstance(schema, list):
        for at, each in enumerate(cast("list[Any]", schema)):
            yield from numbers_in(each, f"{path}[{at}]")


def unbounded(schema: Any) -> list[str]:
    return [
        path
        for path, each in numbers_in(schema)
        if not (
            {"maximum", "exclusiveMaximum"} & each.keys() and {"minimum", "exclusiveMinimum"} & each.keys()
        )
    ]


OPERATIONS = [
    each
    for each in vars(parameters).values()
    if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel
]


@pytest.mark.parametrize("model", [*OPERATIONS, WebhookConfig])
def test_every_number_of_an_operation_has_bounds(model: type[BaseModel]):
    schema = model.model_json_schema()
    assert unbounded(schema) == []
    for name, declared in schema.get("properties", {}).items():
        if any(True for _ in numbers_in(declared)):
            for value in HUGE:
                with pytest.raises(ValidationError):
                    model.model_validate({name: value})


@pytest.mark.parametrize("executor_id", [each["id"] for each in describe_executors() if each["is_usable"]])
def test_every_number_that_an_executor_takes_has_bounds(executor_id: str):
    entry = get_executor(executor_id)
    schema = entry.schema_of(entry.make({}))
    assert schema is None or unbounded(schema.json_schema) == []


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**400, True])
def test_a_run_has_a_limit_that_can_be_kept(value: int):
    with pytest.raises(InvalidInputError, match="max_concurrency must be"):
        TaskManager(MemoryStore(), max_concurrency=value)


class Flaky(BaseTask):
    """Fails once."""

    id = "flaky_for_bounds"
    name = "Flaky"
    description = "Fails once"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.attempts == 1:
            raise ConnectionError("the first time")
        return {}


async def test_the_greatest_numbers_that_are_allowed_work():
    executor_register(override=True)(Flaky)
    try:
        retry = {"max_attempts": 1_000_000, "delay": 0, "backoff": 1000, "max_delay": MAX_SECONDS}
        entry = {
            "name": "a",
            "schemas": {"method": "flaky_for_bounds"},
            "policy": {"timeout": MAX_SECONDS, "retry": retry},
        }
        db = MemoryStore()
        tree = await TaskCreator(db).create_task_tree_from_array([entry])
        ended = await TaskManager(db).distribute_task_tree(tree)
        assert ended["status"] == "completed"
    finally:
        get_registry().unregister("flaky_for_bounds")


@pytest.mark.parametrize("value", [*HUGE, 0, -1, 1.5, "2"])
def test_the_limit_of_an_executor_has_bounds(value: Any):
    limited = type("Limited", (Flaky,), {"id": "limited_for_bounds", "max_concurrency": value})
    with pytest.raises(InvalidInputError, match="max_concurrency must be"):
        executor_register(limited)
