import inspect
import json
from collections.abc import Callable

import pytest

from apflow.core import errors
from apflow.core.errors import (
    AddressRefusedError,
    AlreadyRunningError,
    AmbiguousTaskError,
    ApflowError,
    ApprovalClosedError,
    ApprovalNotFoundError,
    BudgetExceededError,
    CallLostError,
    CapabilityRefusedError,
    ConflictError,
    ExecutorError,
    ExecutorNotFoundError,
    ExtensionTakenError,
    FileRefusedError,
    FlowError,
    ForbiddenError,
    FormerDatabaseError,
    GenerationFailedError,
    HolderGoneError,
    HostNotFoundError,
    HostUnreachableError,
    IdTakenError,
    IllegalMoveError,
    InputsError,
    InvalidInputError,
    KeyUsedError,
    LimitExceededError,
    MalformedFileError,
    MalformedTextError,
    ModelPriceUnknownError,
    MoveLostError,
    NoResultError,
    NotFoundError,
    OwnerLostError,
    PluginConflictError,
    PluginError,
    PluginLoadError,
    QueryError,
    ResourceError,
    RunFailedError,
    RunnerError,
    RunnerUnavailableError,
    ScheduleLimitError,
    ScheduleNotFoundError,
    SecretHostRefusedError,
    SecretNotFoundError,
    SecretRefusedError,
    SecretUnusableError,
    SettingsError,
    StoreDamagedError,
    StoreError,
    StoreForkedError,
    StoreHeldError,
    StoreLockedError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
    StoreVersionError,
    TreeInvalidError,
    ValidationError,
)
from apflow.core.model.status import TaskStatus
from apflow.core.service.error_json import FACTS, data_of, error_from

TOLD = [
    InvalidInputError("No.", ["a", "b"]),
    AmbiguousTaskError("bill/apples", {"a": "a (pending)", "b": "b (failed)"}),
    TreeInvalidError("No tree."),
    ValidationError("No.", ["/a: is not a number"]),
    InputsError("No.", ["no such task"]),
    NotFoundError("a"),
    ScheduleNotFoundError("s"),
    ApprovalNotFoundError("a"),
    ExecutorNotFoundError("rest", "Did you mean 'rest_executor'?"),
    CapabilityRefusedError("The tasks are refused", ["tasks[0]: executor names the executor 'a'."]),
    ForbiddenError("Takes an admin."),
    ConflictError("Not now."),
    IllegalMoveError("a", TaskStatus.FAILED, TaskStatus.COMPLETED),
    AlreadyRunningError("r"),
    OwnerLostError("r"),
    MoveLostError(["a", "b"]),
    IdTakenError(["a"]),
    KeyUsedError("order-4711"),
    ApprovalClosedError("a", "User 'bob' has rejected it."),
    GenerationFailedError("LLMTimeoutError", "the call took longer than 300 s."),
    LimitExceededError(10, "ann"),
    LimitExceededError(10),
    ScheduleLimitError(10, "ann"),
    PluginError("Broken."),
    PluginLoadError("apflow.executors", "x", "x-plugin", "1.0", "no module"),
    PluginConflictError("apflow.executors", "x", ["a", "b"]),
    ExtensionTakenError("x", "a.A", "b.B"),
    StoreError("Away."),
    StoreUnavailableError("duckdb:///a", "No space left on device", "cannot be written now."),
]
# Errors that no operation ends with, or that tell of the machine.
UNTOLD = {
    ApflowError,
    BudgetExceededError,
    ModelPriceUnknownError,
    NoResultError,
    SettingsError,
    StoreDamagedError,
    HolderGoneError,
    StoreForkedError,
    StoreHeldError,
    StoreLockedError,
    StoreOutcomeUnknownError,
    StoreVersionError,
    FormerDatabaseError,
    MalformedFileError,
    MalformedTextError,
    SecretNotFoundError,
    SecretRefusedError,
    SecretHostRefusedError,
    SecretUnusableError,
    QueryError,
    ExecutorError,
    FlowError,
    RunFailedError,
    RunnerError,
    CallLostError,
    ResourceError,
    RunnerUnavailableError,
    AddressRefusedError,
    FileRefusedError,
    HostNotFoundError,
    HostUnreachableError,
}


@pytest.mark.parametrize("error", TOLD, ids=lambda error: type(error).__name__)
def test_an_error_that_travelled_is_the_same(error: ApflowError):
    data = json.loads(json.dumps(data_of(error)))
    arrived = error_from(str(error), data)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert data == {"type": type(error).__name__} | vars(error)


def test_every_error_of_the_core_is_sent_or_deliberately_withheld():
    every = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__
    }
    assert {type(error) for error in TOLD} == set(FACTS)
    assert every - set(FACTS) == UNTOLD


def test_the_nearest_class_that_is_known_elsewhere_stands_for_a_new_one():
    class MineError(NotFoundError):
        def __init__(self) -> None:
            super().__init__("a")
            self.password = "secret"

    assert data_of(MineError()) == {"type": "NotFoundError", "task_id": "a"}
    assert data_of(SecretNotFoundError("token")) == {}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data | {"type": "StrangeError"},
        lambda data: data | {"type": ["IdTakenError"]},
        lambda data: data | {"task_ids": "a"},
        lambda data: data | {"task_ids": [1]},
        lambda data: {"type": data["type"]},
        lambda data: [data],
        lambda _: None,
        lambda _: "IdTakenError",
    ],
)
def test_unknown_data_does_not_describe_an_error(spoil: Callable[[object], object]):
    assert error_from("No.", spoil(data_of(IdTakenError(["a"])))) is None


def test_what_a_later_version_adds_is_passed_over():
    arrived = error_from("No.", data_of(KeyUsedError("k")) | {"since": "yesterday"})
    assert isinstance(arrived, KeyUsedError)
    assert vars(arrived) == {"key": "k"}
