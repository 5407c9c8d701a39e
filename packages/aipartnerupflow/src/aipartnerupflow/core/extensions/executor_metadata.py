"""The former functions that describe executors, and check tasks against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apflow.core import get_registry
from apflow.core.errors import ExecutorNotFoundError, InvalidInputError
from apflow.core.extensions.description import describe_executor, describe_executors
from apflow.core.extensions.executor import input_schema_of
from apflow.core.model.task import Json
from apflow.core.payload.schema import compile_schema

__all__ = ["get_all_executor_metadata", "get_executor_metadata", "validate_task_format"]


def get_executor_metadata(executor_id: str) -> dict[str, Json]:
    """Return what `apflow executors describe` shows of an executor, its `input_schema` included.

    Raises:
        ExecutorNotFoundError: there is none of this id.
        PluginError: it cannot be loaded, or two distributions offer it.
    """
    return describe_executor(executor_id)


def get_all_executor_metadata() -> dict[str, dict[str, Json]]:
    """Return what `get_executor_metadata` returns for each executor, by id; a broken one with its problem."""
    return {each["id"]: each for each in describe_executors()}


def validate_task_format(task: Mapping[str, Any], executor_id: str | None = None) -> bool:
    """Return whether the `inputs` of a task, as in an array, are as the schema of its executor wants them.

    Args:
        task: an object with `inputs`.
        executor_id: the executor; None for the one that the task names: by `params.executor_id`, else by
            `schemas.method`, else by its name.

    Raises:
        PluginError: the executor cannot be loaded.
    """
    wanted = executor_id or _named_by(task)
    try:
        schema = compile_schema(input_schema_of(get_registry().create_executor_instance(wanted)))
        if schema is not None:
            schema.validate(dict(task.get("inputs") or {}))
    except (ExecutorNotFoundError, InvalidInputError):
        return False
    return True


def _named_by(task: Mapping[str, Any]) -> str:
    params: dict[str, Json] = task.get("params") or {}
    schemas: dict[str, Json] = task.get("schemas") or {}
    return str(params.get("executor_id") or schemas.get("method") or task.get("name") or "")
