"""Convert errors to JSON and back, so that a client can raise the error that the server raised.

The JSON contains the name of the class in `apflow.core.errors` and the values of its attributes. Both are
stable: clients of other versions and in other languages depend on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import ValidationError as DataError

from apflow.core.errors import (
    AlreadyRunningError,
    AmbiguousTaskError,
    ApflowError,
    ApprovalClosedError,
    ApprovalNotFoundError,
    CapabilityRefusedError,
    ConflictError,
    ExecutorNotFoundError,
    ExtensionTakenError,
    ForbiddenError,
    GenerationFailedError,
    IdTakenError,
    IllegalMoveError,
    InputsError,
    InvalidInputError,
    KeyUsedError,
    LimitExceededError,
    MoveLostError,
    NotFoundError,
    OwnerLostError,
    PluginConflictError,
    PluginError,
    PluginLoadError,
    ScheduleLimitError,
    ScheduleNotFoundError,
    StoreError,
    StoreUnavailableError,
    TreeInvalidError,
    ValidationError,
)
from apflow.core.model.task import Json

VIOLATIONS: Final[Mapping[str, Any]] = {"violations": list[str]}

# The errors that clients receive, each with its attributes. A class that is not listed is sent as its nearest
# listed base class.
FACTS: Final[Mapping[type[ApflowError], Mapping[str, Any]]] = {
    InvalidInputError: VIOLATIONS,
    AmbiguousTaskError: {**VIOLATIONS, "name": str, "task_ids": list[str]},
    TreeInvalidError: VIOLATIONS,
    ValidationError: VIOLATIONS,
    InputsError: VIOLATIONS,
    NotFoundError: {"task_id": str},
    ScheduleNotFoundError: {"task_id": str},
    ApprovalNotFoundError: {"task_id": str},
    ExecutorNotFoundError: {"executor_id": str, "advice": str},
    ForbiddenError: {},
    CapabilityRefusedError: VIOLATIONS,
    ConflictError: {},
    IllegalMoveError: {"task_id": str, "old": str, "new": str},
    AlreadyRunningError: {"root_id": str},
    OwnerLostError: {"root_id": str},
    MoveLostError: {"task_ids": list[str]},
    IdTakenError: {"task_ids": list[str]},
    KeyUsedError: {"key": str},
    ApprovalClosedError: {"task_id": str, "reason": str},
    GenerationFailedError: {"error_type": str, "reason": str},
    LimitExceededError: {"limit": int, "user_id": str | None},
    ScheduleLimitError: {"limit": int, "user_id": str | None},
    PluginError: {},
    PluginLoadError: {"group": str, "name": str, "distribution": str, "version": str, "may_pass": bool},
    PluginConflictError: {"group": str, "name": str, "distributions": list[str]},
    ExtensionTakenError: {"extension_id": str, "holder": str, "newcomer": str},
    StoreUnavailableError: {"reason": str},
    StoreError: {},  # the location and the state of the database are not disclosed
}
NAMES: Final[Mapping[str, type[ApflowError]]] = {kind.__name__: kind for kind in FACTS}


def data_of(error: ApflowError) -> dict[str, Json]:
    """Return the `type` of an error with its attributes; empty if no base class is listed in `FACTS`."""
    kind = next((each for each in type(error).__mro__ if each in FACTS), None)
    if kind is None:
        return {}
    return {"type": kind.__name__} | {name: getattr(error, name) for name in FACTS[kind]}


def error_from(message: str, data: Json) -> ApflowError | None:
    """Return the error that `data_of` described, with its message.

    None if the type is unknown or its attributes are invalid.
    """
    name: Json = cast("dict[str, Json]", data).get("type") if isinstance(data, dict) else None
    kind = NAMES.get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    try:
        facts = _model(kind.__name__).model_validate(data).model_dump()
    except DataError:
        return None
    error = kind.__new__(kind)  # `__init__` is not called, because it would build the message again
    error.args = (message,)
    vars(error).update(facts)
    return error


@cache
def _model(type_name: str) -> type[BaseModel]:
    fields: dict[str, Any] = {name: (hint, ...) for name, hint in FACTS[NAMES[type_name]].items()}
    return create_model(type_name, __config__=ConfigDict(strict=True), **fields)
