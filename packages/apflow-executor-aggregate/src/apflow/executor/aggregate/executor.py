"""The executor that puts the results of a task's dependencies together."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, ClassVar

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.payload.json_value import size_of
from apflow.core.settings import get_settings
from apflow.executor.aggregate.combine import Results, concat, merge, part_of
from apflow.executor.aggregate.errors import AggregateTooLargeError

# After so many results other tasks get their turn.
STEP = 500

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mode": {
            "type": "string",
            "enum": ["collect", "merge", "concat"],
            "default": "collect",
            "description": "collect: the results by dependency id. merge: one object of their properties. "
            "concat: one list of all their items.",
            "examples": ["merge"],
        },
        "path": {
            "type": ["string", "null"],
            "description": "The part to take of each result, as a JMESPath. Null where it finds nothing.",
            "examples": ["memory.total_bytes"],
        },
    },
    # Results are taken from the dependencies themselves; copies of them among the inputs are not wanted.
    # Notes that hooks leave begin with an underscore.
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}


class AggregateResultsExecutor(BaseTask):
    """Puts the results of the tasks that this one depends on together."""

    id = "aggregate_results_executor"
    name = "Aggregate results"
    description = "Puts the results of the tasks that it depends on together: collected, merged or joined."
    effect = "pure"
    inputs_schema: ClassVar[InputsSchema] = SCHEMA

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the results of the completed dependencies, in the order in which the task names them.

        Called directly, without a task, it aggregates what it is given: every input that is not an option.

        Raises:
            AggregateError: they cannot be put together in this way.
        """
        results: Results = self.dependency_results
        if self.task_id is None and not results:
            results = {name: each for name, each in inputs.items() if name not in SCHEMA["properties"]}
        mode = inputs.get("mode", "collect")
        parts = await _take(results, inputs.get("path"))
        joined = merge(parts) if mode == "merge" else concat(parts.values()) if mode == "concat" else parts
        answer = {
            "summary": self._summary(mode, len(parts)),
            "results": joined,
            "result_count": len(parts),
            "timestamp": datetime.now(UTC).isoformat(),
        }
        size, limit = size_of(answer), get_settings().max_result_bytes
        if size > limit:
            raise AggregateTooLargeError(len(parts), size, limit)
        return answer

    def _summary(self, mode: str, count: int) -> str:
        done = {"collect": "Collected", "merge": "Merged", "concat": "Joined"}[mode]
        dependencies = len(self.task.dependencies) if self.task else count
        return f"{done} the results of {count} of {dependencies} dependencies."


async def _take(results: Results, path: str | None) -> dict[str, Any]:
    if path is None:
        return dict(results)
    part, parts = part_of(path), dict[str, Any]()
    for number, (dependency_id, result) in enumerate(results.items(), start=1):
        parts[dependency_id] = part(dependency_id, result)
        if number % STEP == 0:
            await asyncio.sleep(0)
    return parts
