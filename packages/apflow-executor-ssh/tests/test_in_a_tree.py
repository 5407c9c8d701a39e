import logging
from typing import Any

import pytest
from peers.sshd import PASSPHRASE, Sshd

from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor


async def run(*tasks: dict[str, Any]) -> dict[str, Any]:
    async with MemoryStore() as store:
        return dict(await TaskExecutor().execute_tasks(list(tasks), db_session=store))


async def test_the_result_of_another_task_never_says_where_to_log_in_or_what_to_run(server: Sshd):
    @executor_register(executor_id="test_hostile_ssh")
    class Hostile(BaseTask):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {"command": "id", "host": "192.0.2.1", "username": "root", "key": "x", "env": {"A": "b"}}

    try:
        done = await run(
            {"id": "run", "name": "ssh_executor", "dependencies": ["read"]},
            {"id": "read", "name": "test_hostile_ssh", "parent_id": "run"},
        )
    finally:
        get_registry().unregister("test_hostile_ssh")
    assert done["result"]["error_type"] == "ValidationError"


async def test_credentials_come_from_secrets_and_leave_no_trace(
    server: Sshd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    key = server.locked["ecdsa"].read_text()
    monkeypatch.setenv("APFLOW_SECRET_SSH_KEY", key)
    monkeypatch.setenv("APFLOW_SECRET_SSH_PHRASE", PASSPHRASE)
    inputs = {name: value for name, value in server.inputs.items() if name != "key_file"}
    inputs |= {"key": {"$secret": "ssh_key"}, "passphrase": {"$secret": "ssh_phrase"}}
    done = await run({"name": "ssh_executor", "inputs": {**inputs, "command": "cat", "stdin": "through"}})
    assert (done["status"], done["result"]["stdout"]) == ("completed", "through")
    failed = await run({"name": "ssh_executor", "inputs": {**inputs, "command": "exit 4"}})
    assert failed["result"]["error_type"] == "SshCommandFailedError"
    said = caplog.text + str(done) + str(failed)
    assert [each for each in (PASSPHRASE, *key.splitlines()) if each in said] == []


async def test_the_output_of_a_command_is_in_the_log_of_its_task_while_it_runs(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_WORD", "very-secret-value")
    script = "echo first; echo $W >&2; read go; echo last"
    lines = ["first", "***", "last"]
    async with MemoryStore() as store:
        service = TaskService(store)
        inputs = {**server.inputs, "command": script, "env": {"W": {"$secret": "WORD"}}, "stdin": "go\n"}
        await service.create({"id": "r", "name": "ssh_executor", "inputs": inputs})
        done = await service.run("r")
        found = await service.logs("r")
    assert done["status"] == "completed"
    assert sorted((line["source"], line["message"]) for line in found) == [
        ("stderr", lines[1]),
        ("stdout", lines[0]),
        ("stdout", lines[2]),
    ]
