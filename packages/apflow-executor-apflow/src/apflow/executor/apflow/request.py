"""What is called, made from the inputs of a task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS
from apflow.executor.apflow.errors import RemoteInputError

KEY: Final = "idempotency_key"


@dataclass(frozen=True)
class RemoteRequest:
    """A call of another server."""

    method: str
    params: Mapping[str, Json]
    has_wait: bool  # what runs there is followed to its end

    @property
    def is_run(self) -> bool:
        """Whether the call starts a run there."""
        return OPERATIONS[self.method].starts_run

    @property
    def is_watch(self) -> bool:
        """Whether the answer to the call is a stream of events."""
        return OPERATIONS[self.method].is_stream

    @property
    def key(self) -> str | None:
        """What makes it safe to repeat."""
        return self.params.get(KEY)


def read_request(inputs: Mapping[str, Any], key: str | None) -> RemoteRequest:
    """Return the call that inputs describe, with the key that makes it safe to repeat where it may have one.

    Raises:
        RemoteInputError: the operation would refuse the parameters, whatever is stored there.
    """
    method, params = inputs["method"], dict(inputs["params"])
    if method == "tasks.create" and params.pop("execute", False):
        method = "tasks.submit"  # the same, and in the table
    operation = OPERATIONS[method]
    for name in (operation.wait_parameter, operation.stream_parameter):
        params.pop(name, None)
    takes_key = KEY in operation.parameters.model_fields and not params.get("copy_execution")
    if key is not None and takes_key:
        params.setdefault(KEY, key)
    try:
        operation.read(params)
    except InvalidInputError as error:
        raise RemoteInputError(str(error), error.violations) from error
    return RemoteRequest(
        method, params, has_wait=inputs.get("wait_for_completion", True) or operation.is_stream
    )


def ids_of(answer: Mapping[str, Json]) -> tuple[str, str]:
    """Return the ids of the root and of the task that an answer to a request for a run names."""
    if "root_task_id" in answer:
        return answer["root_task_id"], answer["task_id"]
    return answer["id"], answer["id"]


def named_task(params: Mapping[str, Json], answer: Json) -> str | None:
    """Return the id of the one task that a call is about; None where it is about none, or several."""
    for source in (params, answer):
        if isinstance(source, Mapping):
            known = cast("Mapping[str, Json]", source)
            for value in (known.get(name) for name in ("task_id", "id", "root_id", "parent_id")):
                if isinstance(value, str):
                    return value
    return None
