"""Translates the return value or the exception of an executor into the outcome of the task.

Pure. The outcome contains a plain JSON copy, so an executor that keeps its result cannot change it later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from apflow.core.concurrency.exit_fence import EscapedError
from apflow.core.errors import (
    BudgetExceededError,
    CapabilityRefusedError,
    ExecutorNotFoundError,
    FileRefusedError,
    InputsError,
    InvalidInputError,
    ModelPriceUnknownError,
    SecretHostRefusedError,
    SecretRefusedError,
    ValidationError,
)
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Policy
from apflow.core.payload.json_value import ADVICE, MAX_DEPTH, clean_text, dumps, encode
from apflow.core.payload.schema import InputSchema
from apflow.core.process.traceback_text import users_traceback

VALIDATION_ERROR: Final = "ValidationError"
EXECUTOR_NOT_FOUND: Final = "ExecutorNotFound"
DEPENDENCY_FAILED: Final = "DependencyFailed"
CHILD_FAILED: Final = "ChildFailed"
CONDITION_INVALID: Final = "ConditionInvalid"
FOR_EACH_INVALID: Final = "ForEachInvalid"
INTERRUPTED: Final = "Interrupted"
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
RUNNER_UNAVAILABLE: Final = "RunnerUnavailable"
RETURNED_FAILURE: Final = "ReturnedFailure"  # a returned {"status": "failed"} that names no error_type
APPROVAL_REJECTED: Final = "ApprovalRejected"
APPROVAL_TIMEOUT: Final = "ApprovalTimeout"
NOT_SERIALIZABLE: Final = "ResultNotSerializable"
TOO_LARGE: Final = "ResultTooLarge"
INVALID: Final = "ResultInvalid"

# Why a task is skipped: `reason` of its result.
CONDITION_FALSE: Final = "ConditionFalse"
DEPENDENCY_SKIPPED: Final = "DependencySkipped"
NOTHING_FAILED: Final = "NothingFailed"

NEVER_RETRIED: Final = frozenset(
    {INTERRUPTED, DEPENDENCY_FAILED, CHILD_FAILED, CONDITION_INVALID, DEADLINE_EXCEEDED, FOR_EACH_INVALID}
)
# Errors that a retry does not fix. A policy can still name them.
_RETRIED_BY_NAME_ONLY: Final = frozenset(
    {VALIDATION_ERROR, EXECUTOR_NOT_FOUND, NOT_SERIALIZABLE, TOO_LARGE, INVALID}
    | {APPROVAL_REJECTED, APPROVAL_TIMEOUT}
    | {
        each.__name__
        for each in (
            CapabilityRefusedError,
            SecretRefusedError,
            SecretHostRefusedError,
            FileRefusedError,
            BudgetExceededError,
            ModelPriceUnknownError,
        )
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a task or of one attempt: a terminal status and the data stored with it."""

    status: TaskStatus
    result: Json = None  # plain JSON
    error: str | None = None  # for people
    error_type: str | None = None  # for programs
    size: int = 0  # bytes of the result as JSON; 0 if not measured
    traceback: str | None = None  # of the exception of users' code
    usage: Json = None  # of calls of models in the attempt, see `UsageTotals.to_dict`; None: no calls
    cached_from: str | None = None  # the task whose result it is; None: the executor was called
    cache_key: str | None = None  # by which other tasks find the result


def outcome_to_json(outcome: Outcome) -> dict[str, Json]:
    """Return an outcome as plain JSON, without what only its own process uses."""
    return {
        "status": str(outcome.status),
        "result": outcome.result,
        "error": outcome.error,
        "error_type": outcome.error_type,
        "size": outcome.size,
        "traceback": outcome.traceback,
    }


def outcome_from_json(data: Mapping[str, Json]) -> Outcome:
    """Return the outcome that `outcome_to_json` described."""
    values = dict(data)
    values["status"] = TaskStatus(data["status"])
    return Outcome(**values)


def failed(error_type: str, message: str, **more: Json) -> Outcome:
    """Return a failure. Its result contains the error type for programs, and `more`."""
    message = clean_text(message)
    result = {"error_type": error_type, "error": message, **more}
    return Outcome(TaskStatus.FAILED, result, message, error_type)


def cancelled(message: str | None, result: Json = None) -> Outcome:
    """Return the outcome of a cancelled task: the reason, and the result that its code returned, if any."""
    return Outcome(TaskStatus.CANCELLED, result, message or "Cancelled.")


def skipped(reason: str, message: str, **more: Json) -> Outcome:
    """Return the outcome of a skipped task. Its result contains the reason for programs, and `more`."""
    message = clean_text(message)
    return Outcome(TaskStatus.SKIPPED, {"reason": reason, **more}, message)


def interrupted(how: str) -> Outcome:
    """Return the failure of an interrupted task that may not run twice. `how` is the start of the message."""
    return failed(INTERRUPTED, f"{how}; whether it took effect is unknown (effect: once)")


def read_result(
    value: object,
    *,
    output_schema: InputSchema | None = None,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
    reports_status: bool = True,
) -> Outcome:
    """Return the outcome for the return value of an executor.

    Args:
        reports_status: whether a dict with the status "failed" or "cancelled" ends the task in that way.
    """
    try:
        result, size = encode(value, "result", max_depth=max_depth)
    except InvalidInputError as error:
        advice = " A service can send such a number as a string." if ADVICE in str(error) else ""
        message = f"The result cannot be stored: {error}.{advice}"
        return failed(NOT_SERIALIZABLE, _with_own_error(message, value))
    if size > max_bytes:
        message = (
            f"The result has {size:,} bytes, more than {max_bytes:,}. Store it elsewhere and return where."
        )
        return failed(TOO_LARGE, _with_own_error(message, result))
    if reports_status and type(result) is dict:
        reported = cast("dict[str, Json]", result)
        if (status := reported.get("status")) in _ENDED_BADLY:
            return _ended_badly(TaskStatus(cast(str, status)), reported, size)
    if output_schema is not None:
        try:
            output_schema.validate(result, "result")
        except ValidationError as error:
            return failed(INVALID, str(error), violations=error.violations)
    return Outcome(TaskStatus.COMPLETED, result, None, None, size)


_ENDED_BADLY = ("failed", "cancelled")


def _ended_badly(status: TaskStatus, result: dict[str, Json], size: int) -> Outcome:
    error = _own_error(result) or f"The executor returned the status {status}."
    if status is TaskStatus.CANCELLED:
        return Outcome(status, result, error, None, size)
    named = result.get("error_type")
    error_type = named if isinstance(named, str) and named else RETURNED_FAILURE
    return Outcome(status, result, error, error_type, size)


def _own_error(result: dict[str, Json]) -> str | None:
    for name in ("error", "message"):
        reported = result.get(name)
        if reported:
            return reported if isinstance(reported, str) else dumps(reported).decode()
    return None


def _with_own_error(message: str, value: object) -> str:
    """Add the error that an invalid return value reports, so that it is not lost."""
    if not isinstance(value, dict):
        return message
    reported = cast("dict[str, object]", value).get("error")
    if isinstance(reported, BaseException):
        reported = _text_of(reported)
    return f"{message} It reports: {reported[:2000]}" if isinstance(reported, str) and reported else message


def read_exception(error: BaseException) -> Outcome:
    """Return the failure for an exception. The error type is the name of its class."""
    try:
        return _read_exception(error)
    except BaseException as unreadable:  # noqa: BLE001 - the border of an executor call: this runs its code
        name = str(type.__getattribute__(type(error), "__name__"))
        return failed(name, f"{name}, which cannot be shown ({type(unreadable).__name__})")


def _read_exception(error: BaseException) -> Outcome:
    more: dict[str, Json] = {}
    if isinstance(error, EscapedError):
        error = error.error
    if isinstance(error, InvalidInputError) and error.violations:
        more["violations"] = [clean_text(each) for each in error.violations]
    outcome = failed(_type_of(error), _text_of(error), **more)
    shown = users_traceback(error)
    return outcome if shown is None else replace(outcome, traceback=clean_text(shown))


def _type_of(error: BaseException) -> str:
    if isinstance(error, InputsError):
        return VALIDATION_ERROR
    if isinstance(error, ExecutorNotFoundError):
        return EXECUTOR_NOT_FOUND
    return type(error).__name__


def _text_of(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = f"sys.exit({error.code!r}) was called." if isinstance(error, SystemExit) else str(error)
    except BaseException as unreadable:  # noqa: BLE001 - the border of an executor call: this runs its code
        return f"{name}, which cannot be shown ({type(unreadable).__name__})"
    if isinstance(error, BaseExceptionGroup):
        leaves = _leaves(cast("BaseExceptionGroup[BaseException]", error))
        parts = [f"{type(leaf).__name__}: {_text_of(leaf)}" for leaf in leaves]
        text = f"{text}: " + "; ".join(parts[:5]) + ("; ..." if len(parts) > 5 else "")
    return text or name


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, EscapedError):
            error = error.error
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(reversed(cast("BaseExceptionGroup[BaseException]", error).exceptions))
        else:
            yield error


def with_usage(outcome: Outcome, usage: dict[str, Json]) -> Outcome:
    """Return the outcome with what the calls of models in the attempt used.

    A task that did not complete has the usage in its result, too, unless its code has put its own there.

    Args:
        usage: see `UsageTotals.to_dict`.
    """
    result = outcome.result
    if outcome.status is not TaskStatus.COMPLETED and isinstance(result, dict | None):
        kept = cast("dict[str, Json]", result or {})
        cost = None if usage["unpriced_calls"] else usage["cost_usd"]
        result = {"token_usage": token_usage(usage), "cost_usd": cost, **kept}
    return replace(outcome, result=result, usage=usage)


def token_usage(usage: dict[str, Json]) -> dict[str, Json]:
    """Return usage in the names that results of models have."""
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "cached_tokens": usage["cached_tokens"],
    }


def may_retry(outcome: Outcome, policy: Policy, attempts: int, effect: str) -> bool:
    """Return whether another attempt follows the given number of attempts.

    `effect` is the effect of the executor; the policy overrides it.
    """
    if outcome.status is not TaskStatus.FAILED or outcome.error_type in NEVER_RETRIED:
        return False
    if (policy.effect or effect) == "once" or attempts >= policy.retry.max_attempts:
        return False
    if policy.retry.on is None:
        return outcome.error_type not in _RETRIED_BY_NAME_ONLY
    return outcome.error_type in policy.retry.on
