"""An executor whose C call holds the interpreter: no thread of its process runs meanwhile."""

import asyncio
import ctypes
from typing import Any

from apflow.core import BaseTask, executor_register
from apflow.testing.torture.executors import note

libc = ctypes.PyDLL(None)  # unlike CDLL, it does not release the GIL


@executor_register()
class Holding(BaseTask):
    """Holds the interpreter for so many seconds, and then takes so many more."""

    id = "holding"
    name = "Holding"
    description = "Holds the interpreter"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        note("started", task_id=self.task_id, root_id=self.root_task_id)
        libc.usleep(int(inputs["seconds"] * 1e6))
        await asyncio.sleep(inputs.get("then", 0.0))
        note("ended", task_id=self.task_id, root_id=self.root_task_id)
        return {"done": True}
