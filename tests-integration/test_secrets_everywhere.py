"""Fifty secrets through every executor, in success and in failure: none of them is found anywhere after."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from peers.engine import Engine, docker_engine
from peers.grpcserver import Peer, serve
from peers.http import HttpPeer, http_peer
from peers.sshd import Sshd, an_sshd
from peers.websocket import WebSocketPeer, websocket_peer

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.model.task import Json
from apflow.core.settings import reset_settings

__all__ = ["docker_engine"]

Inputs = dict[str, Any]
# Each makes, of a reference to a secret, inputs that use it: the executor, and whether the task completes.
Use = Callable[[Json], tuple[str, Inputs, bool]]
ROUNDS = 3


def uses(web: HttpPeer, socket: WebSocketPeer, sshd: Sshd, service: Peer, name: str) -> list[Use]:
    """Return every way in which a task may use a credential."""

    def command(secret: Json, script: str) -> Inputs:
        return {"command": ["sh", "-c", script], "env": {"TOKEN": secret}}

    tell, fail = "echo said $TOKEN; echo $TOKEN >&2", "echo said $TOKEN; echo $TOKEN >&2; exit 3"
    echo, image = web.url("/echo"), {"image": name}
    by_password = {each: value for each, value in sshd.inputs.items() if each != "key_file"}
    return [
        lambda s: ("command_executor", command(s, tell), True),
        lambda s: ("command_executor", command(s, fail), False),
        lambda s: ("command_executor", {"command": "cat", "stdin": s}, True),
        lambda s: ("rest_executor", {"url": echo, "auth": {"type": "bearer", "token": s}}, True),
        lambda s: ("rest_executor", {"url": echo, "headers": {"X-Token": s}}, True),
        lambda s: ("rest_executor", {"url": echo, "method": "POST", "json": {"password": s}}, True),
        lambda s: ("rest_executor", {"url": web.url("/auth"), "auth": {"type": "bearer", "token": s}}, False),
        lambda s: ("rest_executor", {"url": web.url("/status/500"), "params": {"say": s}}, False),
        lambda s: ("websocket_executor", {"url": socket.url("/echo"), "message": {"token": s}}, True),
        lambda s: (
            "websocket_executor",
            {"url": socket.url("/auth"), "message": "m", "headers": {"Authorization": s}},
            False,
        ),
        lambda s: ("ssh_executor", sshd.inputs | {"command": tell, "env": {"TOKEN": s}}, True),
        lambda s: ("ssh_executor", sshd.inputs | {"command": fail, "env": {"TOKEN": s}}, False),
        lambda s: ("ssh_executor", by_password | {"password": s, "command": "true"}, False),
        lambda s: ("docker_executor", command(s, tell) | image, True),
        lambda s: ("docker_executor", command(s, fail) | image, False),
        lambda s: (
            "grpc_executor",
            service.inputs("Greet", {"name": s}, metadata={"authorization": s}),
            True,
        ),
        lambda s: ("grpc_executor", service.inputs("Fail", {"code": 7, "message": s}), False),
    ]


def files_below(folder: Path) -> dict[str, str]:
    found = [file for file in folder.rglob("*") if file.is_file()]
    assert found
    return {str(file): file.read_bytes().decode("latin-1") for file in found}


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HttpPeer, WebSocketPeer, Sshd]]:
    with ExitStack() as stack:
        monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
        reset_settings()
        yield (
            stack.enter_context(http_peer()),
            stack.enter_context(websocket_peer()),
            stack.enter_context(an_sshd()),
        )
    reset_settings()


async def test_none_of_fifty_secrets_is_found_anywhere(
    peers: tuple[HttpPeer, WebSocketPeer, Sshd],
    docker_engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    async with serve() as service:
        tasks: list[Inputs] = [{"id": "root", "name": "root"}]
        expected: dict[str, str] = {}
        known: list[str] = []
        for number, use in enumerate(uses(*peers, service, docker_engine.image) * ROUNDS):
            known.append(secrets.token_urlsafe(18))
            monkeypatch.setenv(f"APFLOW_SECRET_NUMBER_{number}", known[-1])
            executor, inputs, completes = use({"$secret": f"NUMBER_{number}"})
            expected[f"t{number}"] = "completed" if completes else "failed"
            task = {"id": f"t{number}", "name": f"t{number}", "parent_id": "root"}
            tasks.append(task | {"schemas": {"method": executor}, "inputs": inputs})
        assert len(known) >= 50
        path = tmp_path / "secrets.duckdb"
        async with create_session(f"duckdb:///{path}") as db:
            tree = await TaskCreator(db).create_task_tree_from_array(tasks)
            await TaskManager(db).distribute_task_tree(tree)
            stored = [task.to_dict() for task in await db.tree("root")]
            events = [event.to_dict() for event in await db.events("root")]
    assert {task["id"]: task["status"] for task in stored if task["id"] != "root"} == expected
    places = {
        "tasks": str(stored),
        "events": str(events),
        "log": caplog.text,
        **files_below(tmp_path),
    }
    assert [(secret, place) for secret in known for place, text in places.items() if secret in text] == []
    assert "***" in places["tasks"], "they were reported, and removed"
