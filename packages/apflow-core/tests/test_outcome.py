from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import ExecutorNotFoundError, InputsError, ValidationError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Policy, Retry
from apflow.core.payload.schema import compile_schema
from apflow.core.planning.outcome import Outcome, failed, may_retry, read_exception, read_result


def read(value: object, *, output: Any = None, max_bytes: int = 10_000) -> Outcome:
    return read_result(value, output_schema=compile_schema(output), max_bytes=max_bytes, max_depth=64)


@pytest.mark.parametrize(
    "value", [None, 0, "text", [1, {}], {"status": "completed", "x": 1}, {"status": "odd"}]
)
def test_json_completes_the_task(value: object):
    outcome = read(value)
    assert (outcome.status, outcome.result, outcome.error) == (TaskStatus.COMPLETED, value, None)
    assert outcome.size > 0


def test_the_result_is_a_copy():
    mine = {"list": [1]}
    outcome = read(mine)
    mine["list"].append(2)
    assert outcome.result == {"list": [1]}


def test_a_returned_failure_fails_the_task_and_is_kept():
    value = {"status": "failed", "error": "no route", "code": 7}
    outcome = read(value)
    assert (outcome.status, outcome.error, outcome.result) == (TaskStatus.FAILED, "no route", value)
    assert outcome.error_type == "ReturnedFailure"
    assert read({"status": TaskStatus.FAILED, "error_type": "Quota"}).error_type == "Quota"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"error": {"code": 1}}, '{"code":1}'),
        ({"message": "told"}, "told"),
        ({"error": None, "message": "told"}, "told"),
        ({}, "The executor returned the status failed."),
    ],
)
def test_a_returned_failure_always_has_an_error_text(value: dict[str, object], error: str):
    assert read({"status": "failed", **value}).error == error


def test_a_returned_cancellation_cancels_the_task():
    value = {"status": "cancelled", "message": "Task was cancelled", "partial_result": 1}
    outcome = read(value)
    assert (outcome.status, outcome.error, outcome.result) == (
        TaskStatus.CANCELLED,
        "Task was cancelled",
        value,
    )


@pytest.mark.parametrize(
    "value", [object(), {"x": {1}}, [float("nan")], {"t": datetime.now(UTC)}, {1: 2}, b"x"]
)
def test_what_is_no_json_fails_the_task(value: object):
    outcome = read(value)
    assert (outcome.status, outcome.error_type) == (TaskStatus.FAILED, "ResultNotSerializable")
    assert outcome.result["error"] == outcome.error


def test_a_failure_that_cannot_be_stored_still_tells_its_error():
    assert "boom" in (read({"status": "failed", "error": "boom", "exception": ValueError()}).error or "")
    assert "boom" in (read({"status": "failed", "error": ValueError("boom")}).error or "")


def test_a_result_that_is_too_large_fails_the_task():
    assert read("x" * 98, max_bytes=100).status is TaskStatus.COMPLETED
    outcome = read("x" * 99, max_bytes=100)
    assert outcome.error_type == "ResultTooLarge"
    assert "101" in (outcome.error or "")


def test_hostile_nesting_fails_the_task():
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert read(value).error_type == "ResultNotSerializable"


def test_a_result_that_breaks_the_output_schema_fails_the_task_with_every_violation():
    output = {"properties": {"n": {"type": "integer"}}, "required": ["x"]}
    outcome = read({"n": "a"}, output=output)
    assert outcome.error_type == "ResultInvalid"
    assert 'result.n: "a" is not of type "integer"' in outcome.result["violations"]
    assert len(outcome.result["violations"]) == 2
    assert read({"n": 1, "x": 2}, output=output).status is TaskStatus.COMPLETED
    assert read({"status": "failed", "error": "e"}, output=output).error_type == "ReturnedFailure"


class QuotaError(Exception):
    pass


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_exception_fails_the_task_with_its_class_name():
    assert read_exception(QuotaError("5 of 5")) == failed("QuotaError", "5 of 5")
    assert read_exception(QuotaError("5 of 5")).result == {
        "error_type": "QuotaError",
        "error": "5 of 5",
    }
    assert read_exception(TimeoutError()).error == "TimeoutError"
    assert read_exception(ValueError("a\0\ud800")).error == "a\ufffd\ufffd"
    assert read_exception(UnreadableError()).error_type == "UnreadableError"


def test_our_own_errors_have_the_documented_types():
    invalid = read_exception(ValidationError("bad", ["inputs.x: wrong"]))
    assert (invalid.error_type, invalid.result["violations"]) == ("ValidationError", ["inputs.x: wrong"])
    assert read_exception(InputsError("bad")).error_type == "ValidationError"
    assert read_exception(ExecutorNotFoundError("x")).error_type == "ExecutorNotFound"


def test_a_group_of_exceptions_tells_what_is_in_it():
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("one", [KeyError("b")])])
    assert read_exception(group).error == "two (2 sub-exceptions): ValueError: a; KeyError: 'b'"


POLICY = Policy(retry=Retry(max_attempts=3))


@pytest.mark.parametrize(
    ("error_type", "may"),
    [
        ("QuotaError", True),
        ("TimeoutError", True),
        ("ReturnedFailure", True),
        ("ValidationError", False),
        ("ExecutorNotFound", False),
        ("ResultNotSerializable", False),
        ("ResultTooLarge", False),
        ("ResultInvalid", False),
        ("Interrupted", False),
        ("DependencyFailed", False),
        ("ChildFailed", False),
    ],
)
def test_by_default_what_trying_again_may_mend_is_retried(error_type: str, may: bool):
    assert may_retry(failed(error_type, "x"), POLICY, 1, "idempotent") is may


def test_a_policy_may_name_what_is_retried():
    policy = Policy(retry=Retry(max_attempts=3, on=("ResultInvalid", "Interrupted")))
    assert may_retry(failed("ResultInvalid", "x"), policy, 1, "pure")
    assert not may_retry(failed("TimeoutError", "x"), policy, 1, "pure")
    assert not may_retry(failed("Interrupted", "x"), policy, 1, "pure")


@given(st.integers(1, 9), st.integers(1, 9))
def test_attempts_are_counted(attempts: int, most: int):
    policy = Policy(retry=Retry(max_attempts=most))
    assert may_retry(failed("E", "x"), policy, attempts, "idempotent") is (attempts < most)


def test_what_may_happen_once_only_has_one_attempt():
    assert not may_retry(failed("E", "x"), POLICY, 1, "once")
    assert may_retry(failed("E", "x"), Policy(retry=POLICY.retry, effect="pure"), 1, "once")
    assert not may_retry(failed("E", "x"), Policy(retry=POLICY.retry, effect="once"), 1, "pure")


def test_only_failures_are_retried():
    assert not may_retry(Outcome(TaskStatus.COMPLETED), POLICY, 1, "pure")
    assert not may_retry(Outcome(TaskStatus.CANCELLED), POLICY, 1, "pure")
