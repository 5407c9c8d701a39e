"""A crew whose process is killed: the log says where it was, and the tree can be resumed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from apflow.core import TaskService, create_session, recover
from apflow.testing.modelserver import ModelServer, Reply

PROGRAM = """
import asyncio, json, sys
from apflow.core import TaskExecutor, create_session

async def main():
    async with create_session(sys.argv[1]) as db:
        await TaskExecutor().execute_tasks([json.loads(sys.argv[2])], db_session=db)

asyncio.run(main())
"""


async def messages(db: Any) -> list[str]:
    """Return what the crew has logged, without what its libraries have."""
    found = [line["message"] for line in await TaskService(db).logs("t")]
    return [message for message in found if message.startswith("Crew ")]


async def test_a_killed_crew_says_where_it_was_and_runs_again(
    server: ModelServer, llm: dict[str, Any], tmp_path: Path
):
    server.script += [Reply("Analyzed."), Reply("one two three", hang_after=1)]
    agents = [{"role": "Analyst", "goal": "Analyze"}]
    tasks = [{"name": name, "description": f"Do {name}"} for name in ("analyze", "write", "review")]
    params = {"name": "Report", "agents": agents, "tasks": tasks, "llm": llm | {"stream": True}}
    task = {"id": "t", "name": "crewai_executor", "params": params}
    url = f"duckdb:///{tmp_path / 'crash.duckdb'}"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, url, json.dumps(task)], cwd=tmp_path)  # noqa: ASYNC220
    async with asyncio.timeout(120):
        while len(server.requests) < 2 or server.answering < 1:
            assert process.poll() is None
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    async with create_session(url) as db:
        assert (await messages(db))[-1] == "Crew 'Report': task 2 of 3, \"write\" (Analyst)"
        await recover(db)
        async with asyncio.timeout(60):
            while (found := (await db.get(["t"]))["t"]).status not in ("completed", "failed"):
                await asyncio.sleep(0.05)
        assert (found.status, found.interruptions) == ("completed", 1)
        assert "task 1 of 3" in (await messages(db))[-3]
