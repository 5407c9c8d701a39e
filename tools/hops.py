"""Counts the files of apflow that one operation passes through, and how often control changes between them.

    python tools/hops.py

The fewer files and changes, the less a reader has to open to follow an operation. Both are counted in a
second call: imports, caches and the opening of the store are not counted.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

from apflow.core import BaseTask, TaskService, executor_register
from apflow.core.store.memory import MemoryStore

PACKAGE = f"{Path('apflow')}/"


@executor_register()
class Echo(BaseTask):
    """Returns its inputs."""

    id = "echo"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs."""
        return inputs


class Hops:
    """Records the file of each Python call in this thread while it is active."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.changes = 0
        self._last = ""

    def __enter__(self) -> Hops:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        _, found, file = frame.f_code.co_filename.rpartition(f"/{PACKAGE}")
        if not found:
            return
        self.files[file] += 1
        if file != self._last:
            self.changes += 1
            self._last = file


async def main() -> None:
    """Print the figures of a run of two tasks and of `tasks.get`."""
    service = TaskService(MemoryStore())
    tree = [
        {"id": "root", "name": "root", "params": {"executor_id": "echo"}, "dependencies": [{"id": "leaf"}]},
        {"id": "leaf", "name": "leaf", "params": {"executor_id": "echo"}, "parent_id": "root"},
    ]

    ids = [str((await service.create(tree))["id"]) for _ in range(2)]
    # Each operation is called twice: the first call imports and caches, the second is measured.
    operations: dict[str, Callable[[str], Awaitable[object]]] = {
        "create two tasks": lambda _: service.create(tree),
        "run two tasks": service.run,
        "tasks.get": service.get,
    }
    for name, operation in operations.items():
        await operation(ids[0])
        with Hops() as hops:
            await operation(ids[1])
        print(f"{name}: {len(hops.files)} files, {hops.changes} changes of file")
        for file, calls in hops.files.most_common():
            print(f"  {calls:5} calls  {file}")
    threads = [each for each in threading.enumerate() if each is not threading.main_thread()]
    if threads:
        print(f"not counted: what {len(threads)} other threads ran")


if __name__ == "__main__":
    asyncio.run(main())
