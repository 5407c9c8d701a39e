"""The events that `--watch` writes, however late the command begins to watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from apflow.cli.session.running import watched
from apflow.core import BaseTask, MemoryStore, TaskService, executor_register
from apflow.core.model.task import Json


@executor_register(override=True)
class Watched(BaseTask):
    id = "watched"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs


class LateService(TaskService):
    """Begins to watch late, as on a busy machine."""

    async def watch(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
        await asyncio.sleep(0.2)
        async with aclosing(super().watch(task_id, after)) as events:
            async for event in events:
                yield event


async def test_every_event_of_a_run_is_written(capsys: pytest.CaptureFixture[str]):
    service = LateService(MemoryStore())
    root_id = (await service.create([{"name": "watched"}]))["id"]
    await watched(service, root_id, lambda: service.run(root_id))
    types = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert types == ["tree_started", "task_started", "task_completed", "tree_completed"]


async def test_a_run_that_is_refused_ends_the_watch():
    service = TaskService(MemoryStore())
    root_id = (await service.create([{"name": "watched"}]))["id"]

    async def refuse() -> dict[str, Json]:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await watched(service, root_id, refuse)
    assert [each for each in asyncio.all_tasks() if "watch" in each.get_name()] == []
