"""The executor that reports figures of the machine: CPU, memory, disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, TypeVar

from apflow.core.bounds import MAX_CALL_SECONDS
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.process.identity import after_fork_in_child
from apflow.executor.system_info import figures

Answer = TypeVar("Answer")

THREADS = 4
BUSY_SECONDS = 0.1  # over which the use of the processors is measured

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "resource": {
            "type": "string",
            "enum": ["cpu", "memory", "disk", "network", "all"],
            "default": "all",
            "description": "Which figures to return.",
            "examples": ["memory"],
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_CALL_SECONDS,
            "default": 30,
            "description": "Seconds after which the task fails when the system does not answer.",
            "examples": [5],
        },
    },
}

READERS: dict[str, Callable[[], figures.Figures]] = {
    "memory": figures.memory,
    "disk": figures.disk,
    "network": figures.network,
}


class SystemInfoExecutor(BaseTask):
    """Returns processor, memory, disk and network figures of the machine that runs the task."""

    id = "system_info_executor"
    name = "System information"
    description = "Returns processor, memory, disk and network figures of the machine that runs the task."
    effect = "pure"
    inputs_schema: ClassVar[InputsSchema] = SCHEMA

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the figures of the resource that is asked for, or of all, each under its name.

        Raises:
            TimeoutError: the system does not answer in time.
        """
        resource = inputs.get("resource", "all")
        wanted = ["cpu", *READERS] if resource == "all" else [resource]
        async with asyncio.timeout(inputs.get("timeout", 30)):
            answers = await asyncio.gather(*(_read(each) for each in wanted))
        found = dict(zip(wanted, answers, strict=True))
        return {"resource": resource, **found, "timestamp": datetime.now(UTC).isoformat()}


async def _read(resource: str) -> figures.Figures:
    if resource != "cpu":
        return await _in_thread(READERS[resource])
    before = await _in_thread(figures.cpu_times)
    await asyncio.sleep(BUSY_SECONDS)
    return await _in_thread(lambda: figures.cpu(before))


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


@cache
def _threads() -> ThreadPoolExecutor:
    """Return a thread pool for system calls, so that a slow one does not delay other work."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="apflow-system-info")


after_fork_in_child(_threads.cache_clear)  # threads do not survive a fork
