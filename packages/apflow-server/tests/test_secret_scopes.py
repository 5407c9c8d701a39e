"""Secrets on a server with tokens: only what its authors are granted, and only to the hosts of the grant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from receiver import Receiver, receiving
from serving import SECRET, Served, bearer, serve_process

from apflow.core import create_session
from apflow.core.service.task_service import TaskService
from apflow.core.webhooks.webhook import made_secret

VALUE = "the value of a secret"
ANN, BEN, ADMIN = bearer("ann"), bearer("ben", roles=["billing"]), bearer("root", role="admin")
GRANTS = {"KEY": {"roles": ["billing"], "hosts": ["127.0.0.1"]}}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("APFLOW_SECRET_KEY", VALUE)
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.0/8")
    with receiving() as found:
        yield found


def call(served: Served, who: dict[str, str], method: str, params: Any) -> dict[str, Any]:
    with httpx.Client(base_url=served.url, timeout=30, headers=who, trust_env=False) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: dict[str, Any] = http.post("/tasks", json=body).json()
    assert "result" in answer, answer
    return answer["result"]


def task_with(secret: str, url: str, **more: Any) -> dict[str, Any]:
    """Return a task that sends a secret to a receiver."""
    inputs = {
        "url": url,
        "method": "POST",
        "json": {"root_task_id": "x"},
        "headers": {"X-Key": {"$secret": secret}},
    }
    return {"name": "rest_executor", "inputs": inputs | more}


def ran(served: Served, who: dict[str, str], task: dict[str, Any]) -> dict[str, Any]:
    """Run a task and return it as it is in the end."""
    done = call(served, who, "tasks.execute", {"tasks": [task], "wait": True})
    return call(served, who, "tasks.get", {"task_id": done["root_task_id"]})


def received(receiver: Receiver) -> list[str | None]:
    return [
        {name.lower(): value for name, value in each.headers.items()}.get("x-key")
        for each in receiver.requests
    ]


def test_only_administrators_use_secrets_where_nothing_is_granted(guarded: Served, receiver: Receiver):
    for who in (ANN, BEN):
        task = ran(guarded, who, task_with("KEY", receiver.url))
        assert task["status"] == "failed"
        assert "Secret 'KEY' is refused" in task["error"]
        assert "APFLOW_SECRET_POLICY" in task["error"]
    assert received(receiver) == []
    assert ran(guarded, ADMIN, task_with("KEY", receiver.url))["status"] == "completed"
    assert received(receiver) == [VALUE]


def test_a_grant_to_a_role_holds_at_its_hosts(
    guarded: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", json.dumps(GRANTS))
    elsewhere = receiver.url.replace("127.0.0.1", "127.0.0.2")
    assert ran(guarded, BEN, task_with("KEY", receiver.url))["status"] == "completed"
    assert (
        "is not granted for the host '127.0.0.2'" in ran(guarded, BEN, task_with("KEY", elsewhere))["error"]
    )
    assert "not granted for the host" in ran(guarded, ADMIN, task_with("KEY", elsewhere))["error"]
    assert "'ann' is not granted" in ran(guarded, ANN, task_with("KEY", receiver.url))["error"]
    assert received(receiver) == [VALUE]


def test_a_redirect_to_another_host_is_not_followed_with_a_secret(
    guarded: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", json.dumps(GRANTS))
    receiver.answers = [307, 200]
    receiver.headers = {"Location": receiver.url.replace("127.0.0.1", "127.0.0.2")}
    task = ran(guarded, BEN, task_with("KEY", receiver.url))
    assert "is not granted for the host '127.0.0.2'" in task["error"]
    assert len(receiver.requests) == 1


def test_why_names_the_refusal_before_the_task_starts(guarded: Served, receiver: Receiver):
    created = call(guarded, ANN, "tasks.create", [task_with("KEY", receiver.url)])
    told = call(guarded, ANN, "tasks.why", {"task_id": created["id"]})
    assert any("Secret 'KEY' is refused: user 'ann' is not granted it" in each for each in told["reasons"])
    created = call(guarded, ADMIN, "tasks.create", [task_with("KEY", receiver.url)])
    told = call(guarded, ADMIN, "tasks.why", {"task_id": created["id"]})
    assert not any("refused" in each for each in told["reasons"])


def test_a_user_who_changes_the_tree_of_an_administrator_does_not_gain_its_secrets(
    guarded: Served, receiver: Receiver
):
    """In each way to change it: the inputs, the executor, a dependency's inputs, a copy."""
    given = task_with("KEY", receiver.url)
    tasks = [given | {"id": "r", "user_id": "ann"}, {"id": "c", "name": "aggregate_results_executor",
             "parent_id": "r", "user_id": "ann"}]  # fmt: skip
    changes: list[tuple[str, dict[str, Any]]] = [
        ("r", {"inputs": given["inputs"]}),
        ("r", {"schemas": {"method": "rest_executor"}}),
        ("c", {"inputs": {"x": 1}}),
        ("c", {"name": "other"}),
    ]
    for named, change in changes:
        ids = call(guarded, ADMIN, "tasks.create", {"tasks": tasks, "user_id": "ann"})["ids"]
        call(guarded, ANN, "tasks.update", {"task_id": ids[named], **change})
        done = call(guarded, ADMIN, "tasks.execute", {"task_id": ids["r"], "wait": True})
        assert "Secret 'KEY' is refused: user 'ann'" in done["error"]
    ids = call(guarded, ADMIN, "tasks.create", {"tasks": tasks, "user_id": "ann"})["ids"]
    done = call(guarded, ANN, "tasks.execute", {"task_id": ids["r"], "copy_execution": True, "wait": True})
    assert "Secret 'KEY' is refused" in done["error"]
    assert received(receiver) == []
    done = call(guarded, ANN, "tasks.execute", {"task_id": ids["r"], "wait": True})
    assert done["status"] == "completed", "who runs a tree changes nothing of it"
    assert received(receiver) == [VALUE]


def test_the_headers_of_a_webhook_are_bound_as_well(
    guarded: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_SECRET_POLICY", json.dumps(GRANTS))
    task = {"name": "system_info_executor"}

    def asked(who: dict[str, str], url: str) -> Any:
        webhook = {"url": url, "headers": {"X-Key": {"$secret": "KEY"}}, "secret": made_secret()}
        params = {"tasks": [task], "webhook_config": webhook, "wait": True}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": params}
        return httpx.post(f"{guarded.url}/tasks", json=body, headers=who, timeout=30).json()

    assert "user 'ann' is not granted it" in json.dumps(asked(ANN, receiver.url))
    assert "not granted for the host" in json.dumps(
        asked(BEN, receiver.url.replace("127.0.0.1", "127.0.0.2"))
    )
    assert received(receiver) == []
    root = asked(BEN, receiver.url)["result"]["root_task_id"]
    for _ in range(600):
        if any(each["type"] == "tree_completed" for each in receiver.events(root)):
            break
        httpx.get(f"{guarded.url}/health")
    assert set(received(receiver)) == {VALUE}


async def test_what_a_tree_may_use_survives_a_restart_into_a_process_without_tokens(
    tmp_path: Path, receiver: Receiver
):
    url = f"duckdb:///{tmp_path / 'served.duckdb'}"
    environment = {"APFLOW_DATABASE_URL": url, "APFLOW_JWT_SECRET": SECRET}
    with serve_process(tmp_path, environment=environment) as process:
        ids: dict[str, str] = {}
        async with httpx.AsyncClient(base_url=process.url, timeout=30, trust_env=False) as http:
            for name, who in {"ann": ANN, "root": ADMIN}.items():
                tasks = [task_with("KEY", receiver.url)]
                body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": tasks}
                answer = await http.post("/tasks", json=body, headers=who)
                ids[name] = answer.json()["result"]["id"]
        assert process.end() == 0
    async with create_session(url) as db:
        service = TaskService(db)
        refused = await service.run(ids["ann"])
        assert "Secret 'KEY' is refused" in refused["error"]
        assert (await service.run(ids["root"]))["status"] == "completed"
        # Written by this machine: open.
        own = await service.create([task_with("KEY", receiver.url)])
        assert (await service.run(own["id"]))["status"] == "completed"
    assert received(receiver) == [VALUE, VALUE]


def test_clients_may_name_no_files_by_default(
    guarded: Served, served: Served, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the input is called, and for administrators as well; below a permitted folder it is read."""
    path = str(tmp_path / "ca.pem")
    target = {"server": "127.0.0.1:1", "service": "s", "method": "m", "request": {}}
    shell = {"host": "127.0.0.1", "username": "u", "command": "true"}
    rows: list[tuple[str, dict[str, Any]]] = [
        ("rest_executor", {"url": receiver.url, "verify": path}),
        ("websocket_executor", {"url": receiver.url.replace("http", "wss"), "message": "m", "verify": path}),
        (
            "mcp_executor",
            {"transport": "http", "operation": "list_tools", "url": receiver.url, "verify": path},
        ),
        ("grpc_executor", target | {"tls": {"ca": path}}),
        ("grpc_executor", target | {"tls": {"cert": path, "key": path}}),
        ("ssh_executor", shell | {"key_file": path}),
        ("ssh_executor", shell | {"password": "p", "known_hosts": path}),
        ("ssh_executor", shell | {"password": "p", "known_hosts": path, "host_key_policy": "accept-new"}),
    ]
    for who in (ANN, ADMIN):
        for executor, inputs in rows:
            task = ran(guarded, who, {"name": executor, "inputs": inputs})
            assert "APFLOW_FILE_ROOTS" in task["error"], executor
    for executor, inputs in rows:
        error = ran(served, {}, {"name": executor, "inputs": inputs})["error"]
        assert "APFLOW_FILE_ROOTS" not in error, "without tokens every caller is the owner"
    monkeypatch.setenv("APFLOW_FILE_ROOTS", str(tmp_path))
    for executor, inputs in rows:
        assert "APFLOW_FILE_ROOTS" not in ran(guarded, ANN, {"name": executor, "inputs": inputs})["error"]
    assert receiver.requests == []
