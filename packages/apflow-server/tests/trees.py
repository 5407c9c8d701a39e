"""Trees for the tests of streams and webhooks, and an executor that waits for a signal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from apflow.core import BaseTask, executor_register, get_registry
from apflow.core.model.task import Json


class Steps(BaseTask):
    """Reports, waits and fails as its inputs request."""

    id = "server_steps"
    cancelable = False
    go_on = threading.Event()

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        for at in range(inputs.get("says", 0)):
            assert self.event_queue is not None
            self.event_queue.put_nowait({"type": "log", "message": f"{at}"})
        if inputs.get("waits"):
            while not Steps.go_on.is_set():
                await asyncio.sleep(0.005)
        if inputs.get("fails") and self.attempts <= inputs["fails"]:
            raise ValueError("as asked")
        return {"n": inputs.get("n")}


@contextmanager
def steps() -> Generator[type[Steps]]:
    """Have the executor registered."""
    Steps.go_on.clear()
    executor_register(Steps, override=True)
    try:
        yield Steps
    finally:
        Steps.go_on.set()
        get_registry().unregister(Steps.id)


def tree(root_id: str, size: int, **first: Json) -> list[dict[str, Json]]:
    """Return a group with `size - 1` tasks in it; `first` are the inputs of one that all others need."""
    return [
        {"id": root_id, "name": "group"},
        *(
            {
                "id": f"{root_id}.{at}",
                "name": Steps.id,
                "parent_id": root_id,
                "dependencies": [f"{root_id}.0"] if at and first else [],
                "inputs": first if at == 0 else {"n": at},
            }
            for at in range(size - 1)
        ),
    ]
