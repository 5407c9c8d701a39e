"""Claims the id of another distribution's executor."""

from typing import Any

from apflow.core import BaseTask


class Example(BaseTask):
    id = "system_info_executor"
    name = "Rival"
    description = "Answers in place of another"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"answered_by": "rival"}
