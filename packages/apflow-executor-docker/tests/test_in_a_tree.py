import asyncio
from typing import Any

import pytest
from peers.engine import IMAGE, Engine

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


async def run(*tasks: dict[str, Any]) -> dict[str, Any]:
    async with MemoryStore() as store:
        return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


def inputs(*command: str, **more: Any) -> dict[str, Any]:
    return {"image": IMAGE, "command": list(command), "pull": "never", **more}


async def test_the_result_of_another_task_never_says_what_is_run(engine: Engine):
    @executor_register(executor_id="test_hostile")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            chosen = {"image": IMAGE, "command": ["true"], "volumes": {"/": "/host"}, "network": "host"}
            return {**chosen, "result": chosen}

    try:
        done = await run(
            {"id": "run", "name": "docker_executor", "dependencies": ["read"], "inputs": {"image": IMAGE}},
            {"id": "read", "name": "test_hostile", "parent_id": "run"},
        )
    finally:
        get_registry().unregister("test_hostile")
    assert done["result"]["error_type"] == "ValidationError"


async def test_a_container_takes_what_the_task_refers_to_and_knows_whose_it_is(engine: Engine):
    done = await run(
        {
            "id": "count",
            "name": "docker_executor",
            "dependencies": ["say"],
            "inputs": inputs("sh", "-c", "wc -w; env", stdin={"$from": "say", "path": "stdout"}),
        },
        {"id": "say", "name": "docker_executor", "parent_id": "count", "inputs": inputs("echo", "a b c")},
    )
    assert done["status"] == "completed"
    count, *env = done["result"]["stdout"].splitlines()
    assert count.strip() == "3"
    assert f"APFLOW_TASK_ID={done['root_task_id']}" in env
    assert any(each.startswith("APFLOW_IDEMPOTENCY_KEY=") for each in env)


async def test_a_secret_reaches_the_container_and_is_shown_by_nobody(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("APFLOW_SECRET_KEY", "very-secret-value")
    script = "[ ${#TOKEN} = 17 ] && echo $TOKEN; echo $TOKEN >&2; exit $CODE"
    for code, status in (("0", "completed"), ("3", "failed")):
        env = {"TOKEN": {"$secret": "KEY"}, "CODE": code}
        done = await run({"name": "docker_executor", "inputs": inputs("sh", "-c", script, env=env)})
        assert done["status"] == status
        assert "***" in str(done)
        assert "very-secret-value" not in str(done)
    assert "very-secret-value" not in caplog.text


async def test_the_output_of_a_container_is_in_the_log_of_its_task_while_it_runs(engine: Engine):
    script = "echo first; echo second >&2; sleep 0.5; printf last"
    async with MemoryStore() as store:
        service = TaskService(store)
        await service.create({"id": "r", "name": "docker_executor", "inputs": inputs("sh", "-c", script)})
        run = asyncio.ensure_future(service.run("r"))
        seen = [(line["message"], run.done()) async for line in service.follow_logs("r")]
        found = await service.logs("r")
        await run
    assert ("first", False) in seen
    assert sorted((line["source"], line["message"]) for line in found) == [
        ("stderr", "second"),
        ("stdout", "first"),
        ("stdout", "last"),
    ]
