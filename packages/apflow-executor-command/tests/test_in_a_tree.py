import asyncio
import base64
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.service.task_service import TaskService
from apflow.core.settings import reset_settings
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


@pytest.fixture(autouse=True)
def any_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    reset_settings()
    yield
    get_registry().unregister("test_hostile")
    reset_settings()


async def run(*tasks: dict[str, Any]) -> dict[str, Any]:
    async with MemoryStore() as store:
        return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


async def test_the_result_of_another_task_never_says_what_is_run(tmp_path: Path):
    @executor_register(executor_id="test_hostile")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            command = f"touch {tmp_path / 'owned'}"
            return {"command": command, "cwd": "/", "shell": True, "result": {"command": command}}

    done = await run(
        {"id": "run", "name": "command_executor", "dependencies": ["read"]},
        {"id": "read", "name": "test_hostile", "parent_id": "run"},
    )
    assert done["result"]["error_type"] == "ValidationError"
    assert is_empty(tmp_path)


async def test_a_failed_command_fails_the_task_and_shows_what_it_said():
    command = ["python3", "-c", "import sys; sys.exit('the reason')"]
    done = await run({"name": "command_executor", "inputs": {"command": command}})
    assert done["status"] == "failed"
    assert done["result"]["error_type"] == "CommandFailedError"
    assert "the reason" in done["error"]


async def test_a_command_takes_what_the_task_refers_to():
    done = await run(
        {
            "id": "count",
            "name": "command_executor",
            "dependencies": ["say"],
            "inputs": {"command": ["wc", "-w"], "stdin": {"$from": "say", "path": "stdout"}},
        },
        {"id": "say", "name": "command_executor", "parent_id": "count", "inputs": {"command": "echo a b c"}},
    )
    assert done["status"] == "completed"
    assert done["result"]["stdout"].strip() == "3"


async def test_a_secret_of_several_lines_is_masked_in_each_way_that_a_program_prints_it(
    monkeypatch: pytest.MonkeyPatch,
):
    lines = [secrets.token_urlsafe(36) for _ in range(4)]
    secret = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(lines) + "\n-----END PRIVATE KEY-----\n"
    monkeypatch.setenv("APFLOW_SECRET_PEM", secret)
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    script = (
        'echo $P; echo "$P" | tail -n 3; printf %s "$P" | base64; printf "u:%s" "$P" | base64 -w0; '
        'printf %s "$P" | od -An -v -tx1 | tr -d " \\n"; echo "$P" >&2; exit 3'
    )
    inputs = {"command": ["sh", "-c", script], "env": {"P": {"$secret": "PEM"}}}
    async with MemoryStore() as db:
        outcome = await TaskExecutor().execute_tasks(
            [{"name": "command_executor", "inputs": inputs}], db_session=db
        )
        root_id = outcome["root_task_id"]
        stored = [task.to_dict() for task in await db.tree(root_id)]
        told = str([stored, [event.to_dict() for event in await db.events(root_id)]])
    assert outcome["status"] == "failed"
    assert "***" in told
    forms = [
        *lines,
        *(each.encode().hex() for each in lines),
        base64.b64encode(secret.encode()).decode()[:60],
    ]
    assert [each for each in forms if each in told] == []


async def test_the_output_of_a_program_is_in_the_log_of_its_task_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_WORD", "very-secret-value")
    go = tmp_path / "go"
    code = (
        "import os, pathlib, sys, time\n"
        "print('first', flush=True)\n"
        "sys.stdout.buffer.write('ä\\n'.encode()[:1]); sys.stdout.flush(); time.sleep(0.05)\n"
        "sys.stdout.buffer.write('ä\\n'.encode()[1:]); sys.stdout.flush()\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "print('a', os.environ['WORD'], file=sys.stderr)\n"
        "print('last', end='')\n"
    )
    inputs = {"command": [sys.executable, "-c", code], "env": {"WORD": {"$secret": "WORD"}}}
    async with MemoryStore() as store, asyncio.timeout(60):
        service = TaskService(store)
        await service.create({"id": "r", "name": "command_executor", "inputs": inputs})
        run = asyncio.ensure_future(service.run("r"))
        found: list[tuple[str, str]] = []
        async for line in service.follow_logs("r"):
            found.append((line["source"], line["message"]))
            go.touch()
        done = await run
    assert done["status"] == "completed"
    assert sorted(found) == [("stderr", "a ***"), ("stdout", "first"), ("stdout", "last"), ("stdout", "ä")]
