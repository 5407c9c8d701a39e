"""A program that submits trees: a line of JSON in for each, a line of history out once it is acknowledged.

Where the store fails, the same is submitted again with the same key, until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from pathlib import Path

from apflow.core import create_session
from apflow.core.errors import ApflowError
from apflow.core.service.task_service import TaskService
from apflow.testing.torture.history import History
from apflow.testing.torture.trees import Array

REST = 0.2  # seconds between two attempts


async def submit(service: TaskService, key: str, array: Array, history: History) -> None:
    """Submit a tree until it is acknowledged."""
    while True:
        try:
            root = await service.submit(array, idempotency_key=key)
        except ApflowError as error:
            history.append("refused", key=key, error=str(error), time=time.monotonic())
            await asyncio.sleep(REST)
        else:
            history.append("acknowledged", key=key, root_id=root["id"], time=time.monotonic())
            return


async def main() -> None:
    """Submit each tree whose key and file standard input names."""
    history = History(Path(os.environ["FAULTS_HISTORY"]), os.getpid())
    async with create_session() as db:
        while line := await asyncio.to_thread(sys.stdin.readline):
            key, file = json.loads(line)
            await submit(TaskService(db), key, read(file), history)


def read(file: str) -> Array:
    """Return the tree of a file."""
    array: Array = json.loads(Path(file).read_text())
    return array


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    asyncio.run(main())
