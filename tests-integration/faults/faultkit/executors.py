"""Executors and hooks that write down each call before they do anything else."""

import asyncio
from typing import Any

from apflow.core import BaseTask, executor_register, register_post_hook, register_task_tree_hook
from apflow.core.model.task import Task
from apflow.testing.torture.history import History
from faultkit.points import Stop
from faultkit.trees import TARGET


def register(history: History, stop: Stop) -> None:
    """Register the executors and hooks of a worker, which all share its history."""

    class Noting(BaseTask):
        id = "note"
        name = "Note"
        description = "Writes down that it was called"

        async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
            history.append("called", task_id=self.task_id, attempts=self.attempts)
            if self.task_id == TARGET:
                stop.at("in_progress_during_call")
            await asyncio.sleep(0)
            return {"of": self.task_id}

    class Flaky(Noting):
        id = "flaky"
        description = "Fails at its first attempt"

        async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
            result = await super().execute(inputs)
            if self.attempts == 1:
                raise RuntimeError("the first attempt fails")
            return result

    class Holding(Noting):
        id = "hold"
        description = "Runs until it is cancelled"

        async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
            await super().execute(inputs)
            await asyncio.Event().wait()
            raise AssertionError("that event is never set")

    class Counting(Noting):
        id = "count"
        description = "Returns a list"

        async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
            await super().execute(inputs)
            return {"rows": [{"number": number} for number in range(inputs["count"])]}

    for executor in (Noting, Flaky, Holding, Counting):
        executor_register()(executor)
    register_hooks(history, stop)


def register_hooks(history: History, stop: Stop) -> None:
    @register_post_hook
    async def hooked(task: Task, inputs: Any, result: Any) -> None:
        history.append("hooked", task_id=task.id, status=task.status)

    async def ended(root: Task, detail: Any) -> None:
        history.append("tree_hooked", task_id=root.id)
        stop.at("tree_hook_called")

    for event in ("on_tree_completed", "on_tree_failed", "on_tree_cancelled"):
        register_task_tree_hook(event, ended)
