from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS, Operation, unknown_operation
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore

EVERY = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@EVERY
def test_the_model_has_the_parameters_and_the_defaults_of_the_signature(operation: Operation):
    signature = inspect.signature(getattr(TaskService, operation.method))
    assert list(signature.parameters)[1:] == list(operation.parameters.model_fields)
    for name, described in operation.parameters.model_fields.items():
        default = signature.parameters[name].default
        assert described.is_required() == (default is inspect.Parameter.empty), name
        assert described.is_required() or described.default == default, name


@EVERY
def test_the_signature_describes_every_parameter_and_the_docstring_none(operation: Operation):
    for name, field in operation.parameters.model_fields.items():
        assert (field.description or "").endswith("."), name
    assert "Args:" not in str(operation.function.__doc__)


@EVERY
def test_columns_name_parameters_of_the_operation(operation: Operation):
    named = {operation.wait_parameter, operation.stream_parameter} - {None}
    shorthand = operation.shorthand
    assert named | ({shorthand.parameter} if shorthand else set()) <= set(operation.parameters.model_fields)


@EVERY
def test_every_operation_has_a_description_and_schemas(operation: Operation):
    assert operation.summary.endswith(".")
    assert operation.description.startswith(operation.summary)
    assert "Raises:" not in operation.description
    assert operation.parameters_schema()["type"] == "object"
    assert operation.result_schema()


def test_every_public_method_of_the_service_is_in_the_table():
    methods = {
        name for name, _ in inspect.getmembers(TaskService, inspect.isfunction) if not name.startswith("_")
    }
    # For the command line; what `watch` and `follow_logs` yield, for streams; a backup is a file.
    not_offered = {"backup", "run", "find_id", "follow", "follow_logs", "log_follower", "shown_lines"}
    assert {each.method for each in OPERATIONS.values()} == methods - not_offered


async def test_results_have_the_form_that_the_table_tells():
    service = TaskService(MemoryStore())
    calls: list[tuple[str, dict[str, Any]]] = [
        (
            "tasks.create",
            {"tasks": [{"id": "r", "name": "nothing"}, {"id": "c", "name": "c", "parent_id": "r"}]},
        ),
        ("tasks.submit", {"tasks": [{"name": "nothing"}], "idempotency_key": "k"}),
        ("tasks.execute", {"id": "r", "wait": True}),
        ("tasks.execute", {"tasks": [{"name": "nothing"}]}),
        ("tasks.update", {"id": "r", "name": "renamed"}),
        ("tasks.running.list", {}),
        ("tasks.running.count", {}),
        ("system.health", {}),
        ("system.whoami", {}),
        ("system.metrics", {}),
        ("system.database", {}),
        ("system.workers", {}),
        ("system.webhooks", {"limit": 5}),
        ("system.available_executors", {}),
        ("config.llm_key.set", {"api_key": "sk-1"}),
        ("config.llm_key.get", {}),
        ("config.llm_key.delete", {"provider": "openai"}),
        ("tasks.webhooks", {"task_id": "r"}),
        ("tasks.get", {"task_id": "r"}),
        ("tasks.get", {"task_id": "c", "history": True}),
        ("tasks.attempts", {"task_id": "c"}),
        ("tasks.list", {"root_only": False, "status": ["failed"]}),
        ("tasks.children", {"task_id": "r"}),
        ("tasks.tree", {"root_id": "r"}),
        ("tasks.count", {}),
        ("tasks.copy", {"id": "r", "children": True}),
        ("tasks.copy", {"id": "r", "save": False}),
        ("tasks.fork", {"id": "r", "from_task_ids": ["c"], "overrides": {"c": {"priority": 0}}}),
        ("tasks.fork", {"id": "r", "save": False}),
        ("tasks.cancel", {"context_ids": ["r"]}),
        ("tasks.running.status", {"task_ids": ["r", "c"]}),
        ("tasks.resume", {}),
        ("tasks.why", {"id": "c"}),
        (
            "tasks.budget",
            {"id": "r", "usd": 1, "tokens": 10, "calls": 1, "seconds": 0.5, "on_exceed": "wait"},
        ),
        ("tasks.get", {"task_id": "r"}),
        ("tasks.usage", {}),
        ("tasks.usage", {"task_id": "r", "group_by": "task", "since": "2026-01-01T00:00:00Z"}),
        ("system.executors", {}),
        ("tasks.delete", {"id": "r", "force": True}),
        ("schedules.create", {"tasks": [{"name": "nothing"}], "cron": "@daily", "name": "s", "jitter": "5m"}),
        ("schedules.list", {}),
        ("schedules.trigger", {"schedule_id": "s"}),
        ("schedules.show", {"id": "s"}),
        ("schedules.next", {"schedule_id": "s", "count": 3}),
        (
            "schedules.update",
            {"schedule_id": "s", "cron": "@hourly", "overlap": "queue", "clear": ["jitter"]},
        ),
        ("schedules.pause", {"schedule_id": "s"}),
        ("schedules.resume", {"schedule_id": "s"}),
        ("schedules.delete", {"schedule_id": "s"}),
        ("tasks.plan", {"tasks": [{"name": "nothing"}]}),
        ("tasks.export", {"tags": "a", "limit": 5}),
        ("tasks.export", {}),
        ("tasks.stats", {"group_by": "tag", "since": "7d", "tags": "a", "slowest": 1}),
        ("tasks.purge", {"older_than": "30d", "dry_run": True}),
        ("system.checkpoint", {}),
        ("system.vacuum", {}),
    ]
    for name, given in calls:
        answer = await OPERATIONS[name].call(service, given)
        TypeAdapter(OPERATIONS[name].result).validate_python(answer)


async def test_wrong_parameters_are_refused_with_every_fault():
    service = TaskService(MemoryStore())
    with pytest.raises(InvalidInputError) as caught:
        await OPERATIONS["tasks.list"].call(service, {"limit": 0, "order": "size", "colour": "red"})
    assert [each.partition(":")[0] for each in caught.value.violations] == ["limit", "order", "colour"]


@pytest.mark.parametrize(
    "given",
    [
        {"limit": "5"},
        {"limit": 5.5},
        {"limit": 2**31},
        {"root_only": 1},
        {"name": 5},
        {"status": ["running"]},
        {"created_after": 5},
        {"created_after": "5"},
        {"created_after": "2026-01-01T00:00:00"},
        {"created_after": "0001-01-01T00:00:00+23:59"},
        {"created_before": "9999-12-31T23:59:59-23:59"},
    ],
    ids=str,
)
async def test_a_parameter_of_another_kind_is_refused_and_not_guessed_at(given: dict[str, Any]):
    with pytest.raises(InvalidInputError):
        await OPERATIONS["tasks.list"].call(TaskService(MemoryStore()), given)


MANY = 100_000


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("tasks.create", {"tasks": [1] * MANY}),
        ("tasks.cancel", {"task_ids": [1] * MANY}),
        ("tasks.cancel", {"task_ids": ["x"] * MANY}),
        ("tasks.cancel", {"task_ids": ["x"], "error_message": "x" * MANY}),
        ("tasks.running.status", {"task_ids": ["x"] * MANY}),
        ("tasks.resume", {"task_ids": ["x"] * MANY}),
        ("tasks.copy", {"task_id": "x", "custom_task_ids": [1] * MANY}),
        ("tasks.fork", {"task_id": "x", "from_task_ids": [1] * MANY}),
        ("tasks.fork", {"task_id": "x", "overrides": {f"t{at}": 1 for at in range(MANY)}}),
        ("tasks.update", {"task_id": "x", "dependencies": [1] * MANY}),
        ("tasks.list", {"status": ["failed"] * MANY}),
        ("tasks.list", {f"key{at}": 0 for at in range(MANY)}),
        ("tasks.list", {"k" * MANY: 0}),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_refusal_is_short_however_much_is_wrong(name: str, given: dict[str, Any]):
    with pytest.raises(InvalidInputError) as caught:
        await OPERATIONS[name].call(TaskService(MemoryStore()), given)
    assert 0 < len(str(caught.value.violations)) < 1000


async def test_times_and_states_are_given_as_text():
    given = {"created_after": "2026-01-01T00:00:00Z", "status": "failed"}
    assert await OPERATIONS["tasks.list"].call(TaskService(MemoryStore()), given) == []


@EVERY
def test_whole_numbers_are_given_in_any_form(operation: Operation):
    for name, schema in operation.parameters_schema()["properties"].items():
        for each in schema.get("anyOf", [schema]):
            if each.get("type") == "integer":
                value = float(each["minimum"])
                assert violations(operation, name, value) == [], name
                assert violations(operation, name, value + 0.5) != [], name


def violations(operation: Operation, name: str, value: Any) -> list[str]:
    """Return what is wrong with the value of one parameter."""
    try:
        operation.parameters.model_validate({name: value})
    except ValidationError as error:
        return [each["msg"] for each in error.errors() if each["loc"][0] == name]
    return []


async def test_a_parameter_in_a_signature_is_one_of_the_operation(monkeypatch: pytest.MonkeyPatch):
    async def paint(
        self: TaskService, colour: Annotated[str, Field(max_length=4, description="Of the paint.")] = "red"
    ) -> dict[str, Json]:
        """Paint the tree."""
        return {"colour": colour}

    monkeypatch.setattr(TaskService, "paint", paint, raising=False)
    operation = Operation("tasks.paint", paint, dict[str, Json], "any", "change")
    assert operation.parameters.__name__ == "PaintParams"
    assert operation.parameters_schema()["properties"] == {
        "colour": {
            "default": "red",
            "description": "Of the paint.",
            "maxLength": 4,
            "title": "Colour",
            "type": "string",
        }
    }
    service = TaskService(MemoryStore())
    assert await operation.call(service, {}) == {"colour": "red"}
    with pytest.raises(InvalidInputError) as caught:
        await operation.call(service, {"colour": "green", "size": 3})
    assert [each.partition(":")[0] for each in caught.value.violations] == ["colour", "size"]


async def test_an_unknown_parameter_is_answered_with_the_one_that_is_meant():
    service = TaskService(MemoryStore())
    with pytest.raises(InvalidInputError) as caught:
        await OPERATIONS["tasks.list"].call(service, {"statuss": "failed"})
    assert caught.value.violations == ["statuss: There is no such parameter. Did you mean 'status'?"]
    with pytest.raises(InvalidInputError) as caught:
        await OPERATIONS["tasks.why"].call(service, {"task_id": "a", "colour": "red"})
    assert caught.value.violations == [
        "colour: There is no such parameter. The parameters are: task_id.",
    ]


def test_an_unknown_operation_is_answered_with_the_one_that_is_meant():
    assert unknown_operation("tasks.lst") == "Method 'tasks.lst' does not exist. Did you mean 'tasks.list'?"
    assert unknown_operation("cancel") == "Method 'cancel' does not exist. Did you mean 'tasks.cancel'?"
    assert unknown_operation("x" * 10_000) == f"Method {'x' * 100!r} does not exist."


@EVERY
async def test_a_read_only_operation_changes_nothing(operation: Operation):
    reads = (
        "get",
        "attempts",
        "list",
        "children",
        "tree",
        "count",
        "running",
        "status",
        "plan",
        "usage",
        "stats",
        "export",
        "why",
        "webhooks",
        "watch",
        "logs",
    )
    asks = (
        "health",
        "whoami",
        "metrics",
        "database",
        "query",
        "workers",
        "executor",
        "executors",
        "get_llm_key",
        "count_running",
        "schedules",
        "schedule",
        "next_due_times",
        "approvals",
        "approval",
        "available_executors",
        "unfinished_webhooks",
    )
    assert operation.is_read_only == (operation.method in (*reads, *asks))
