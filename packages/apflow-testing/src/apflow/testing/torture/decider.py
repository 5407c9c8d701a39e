"""A program that decides approvals until its standard input ends, with a line of history for each decision.

Where several processes may use the database, it decides in the store itself. Otherwise it uses the command
line, which asks the process that holds the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from apflow.core import create_session
from apflow.core.errors import ApflowError
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.testing.torture.history import History

BY_COMMAND = "--by-command"
REST = 0.2  # seconds between two looks
TIMEOUT_SECONDS = 60.0  # of one command


class Decider(ABC):
    """Decides what waits for a decision, as its question says."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def decide_all(self) -> None:
        """Decide all that waits now, at once."""
        async with asyncio.TaskGroup() as group:
            for approval in await self.waiting():
                for decision in wanted(approval["question"]):
                    group.create_task(self._decide(approval["task_id"], decision), name="decide")

    async def _decide(self, task_id: str, decision: str) -> None:
        found = await self.decide(task_id, decision)
        if found is not None:
            facts = {"task_id": task_id, "decision": found["decision"], "time": time.monotonic()}
            self._history.append("decided", **facts)

    @abstractmethod
    async def waiting(self) -> list[dict[str, Any]]:
        """Return the approvals that wait; none if the store does not answer."""

    @abstractmethod
    async def decide(self, task_id: str, decision: str) -> dict[str, Any] | None:
        """Decide, and return the approval; None if that was refused, or if there was no answer."""


class StoreDecider(Decider):
    """Decides in the store."""

    def __init__(self, history: History, db: TaskStore) -> None:
        super().__init__(history)
        self._service = TaskService(db)

    async def waiting(self) -> list[dict[str, Any]]:
        """Return the approvals that wait; none if the store does not answer."""
        try:
            return await self._service.approvals()
        except ApflowError:
            return []

    async def decide(self, task_id: str, decision: str) -> dict[str, Any] | None:
        """Decide, and return the approval; None if that was refused, or if there was no answer."""
        act = self._service.approve if decision == "approve" else self._service.reject
        try:
            return await act(task_id)
        except ApflowError:
            return None


class CommandDecider(Decider):
    """Decides by `apflow approvals`."""

    async def waiting(self) -> list[dict[str, Any]]:
        """Return the approvals that wait; none if the command fails."""
        found = await self._run("list")
        return [] if found is None else found["approvals"]

    async def decide(self, task_id: str, decision: str) -> dict[str, Any] | None:
        """Decide, and return the approval; None if the command fails."""
        found = await self._run(decision, task_id)
        return None if found is None else found["approval"]

    async def _run(self, *arguments: str) -> dict[str, Any] | None:
        command = [sys.executable, "-m", "apflow.cli", "approvals", *arguments, "--json"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                out, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return None
        return None if process.returncode else json.loads(out)


def wanted(question: str) -> list[str]:
    """Return what people decide about a question: see `trees.DECISIONS`."""
    return {"both": ["approve", "reject"], "race": ["reject"], "default": []}.get(question, [question])


async def main(*, is_by_command: bool) -> None:
    """Decide until standard input ends."""
    history = History(Path(os.environ["FAULTS_HISTORY"]), os.getpid())
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read), name="end")
    if is_by_command:
        await _until(ended, CommandDecider(history))
        return
    async with create_session() as db:
        await _until(ended, StoreDecider(history, db))


async def _until(ended: asyncio.Task[str], decider: Decider) -> None:
    while not ended.done():
        await decider.decide_all()
        await asyncio.wait({ended}, timeout=REST)


if __name__ == "__main__":
    asyncio.run(main(is_by_command=BY_COMMAND in sys.argv))
