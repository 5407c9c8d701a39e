"""The executor of the root of a flow."""

from __future__ import annotations

from typing import Any, ClassVar

from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.payload.schema import EXPLICIT_ONLY


class FlowExecutor(BaseTask):
    """Returns its input `value`, in which references are the results of the tasks of the flow."""

    id = "flow_executor"
    name = "Flow"
    description = "Ends a flow: returns `value`"
    effect = "pure"
    reports_status = False
    inputs_schema: ClassVar[InputsSchema] = {
        "type": "object",
        "properties": {"value": {"description": "What the flow returns: any JSON."}},
        "additionalProperties": False,
        EXPLICIT_ONLY: True,
    }

    async def execute(self, inputs: dict[str, Any]) -> Any:
        """Return the value."""
        return inputs.get("value")
