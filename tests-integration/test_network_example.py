"""The example in which eight executors work together, against real peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from peers.engine import Engine, docker_engine
from peers.grpcserver import serve
from peers.http import http_peer
from peers.sshd import an_sshd
from peers.stores import OpenStore
from peers.websocket import websocket_peer

from apflow.core import TaskCreator, TaskManager
from apflow.core.settings import reset_settings

__all__ = ["docker_engine"]

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "network" / "tree.yaml"


@pytest.fixture
async def tasks(
    docker_engine: Engine, monkeypatch: pytest.MonkeyPatch, each_runner: str
) -> AsyncIterator[list[dict[str, Any]]]:
    """Give the tasks of the example, with the ports of peers that run."""
    with http_peer() as web, websocket_peer() as websocket, an_sshd() as sshd:
        async with serve() as service:
            monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "wc")
            monkeypatch.setenv("APFLOW_SECRET_BUILD_KEY", sshd.keys["ed25519"].read_text())
            monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
            reset_settings()
            text = EXAMPLE.read_text()
            for written, real in {
                ":8081": f":{web.port}",
                ":8082": f":{websocket.port}",
                ":8083": f":{service.port}",
                "port: 8022": f"port: {sshd.port}",
                "username: builder": f"username: {sshd.username}",
                "image: busybox": f"image: {docker_engine.image}",
            }.items():
                assert written in text
                text = text.replace(written, real)
            found = yaml.safe_load(text)
            next(each for each in found if each["id"] == "remote")["inputs"]["known_hosts"] = sshd.known_hosts
            yield found
    reset_settings()


async def test_eight_executors_work_together(tasks: list[dict[str, Any]], example_store: OpenStore):
    assert len({each["schemas"]["method"] for each in tasks}) == 8
    async with example_store() as db:
        tree = await TaskCreator(db).create_task_tree_from_array(tasks)
        await TaskManager(db).distribute_task_tree(tree)
        results = {task.id: task.result for task in await db.tree("report")}
    assert (tree["status"], tree["error"]) == ("completed", None)
    assert results["word"]["json"]["json"] == {"word": "orchestration"}
    assert results["remote"]["stdout"].strip() == "noitartsehcro"
    assert results["boxed"]["stdout"].strip() == "NOITARTSEHCRO"
    assert int(results["counted"]["stdout"]) >= len("NOITARTSEHCRO")
    assert results["greeting"]["response"]["text"].startswith("Hello NOITARTSEHCRO")
    assert results["report"]["result_count"] == 7
    assert "PRIVATE KEY" not in str(results)
