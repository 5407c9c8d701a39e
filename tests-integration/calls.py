"""Calling an executor as the engine does, without a tree around it."""

from __future__ import annotations

from typing import Any

from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.registry import get_executor
from apflow.core.model.task import Task
from apflow.core.payload.inputs import build_inputs
from apflow.core.payload.schema import compile_schema


async def executed(executor_id: str, given: dict[str, Any]) -> Any:
    """Execute with inputs that are checked and completed by the executor's schema."""
    executor: ExecutableTask = get_executor(executor_id).make({})
    schema = compile_schema(executor.get_input_schema())
    assert schema is not None
    task = Task(id="t", name="t", root_id="t", inputs=given)
    return await executor.execute(schema.validate(build_inputs(task, {}, {}, schema)))
