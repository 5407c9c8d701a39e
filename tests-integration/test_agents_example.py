"""The example in which an agent, an MCP tool, a model and a program use each other's results: real peers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from peers.a2aagent import A2aAgent, a2a_agent
from peers.mcpservers import mcp_servers
from peers.stores import OpenStore

from apflow.core import TaskCreator, TaskManager
from apflow.core.settings import reset_settings
from apflow.testing.modelserver import ModelServer, Reply, model_server

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "agents" / "tree.yaml"
TOKEN = "the-token-of-the-clerk"
LETTER = "The invoice of March was paid twice. Please return the second payment."
Peers = tuple[A2aAgent, ModelServer]

# Of the import of LiteLLM.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"),
    pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"),
]


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_runner: str) -> Path:
    """Give a folder with a letter, and put the MCP server of the example on the PATH."""
    folder, programs = tmp_path / "letters", tmp_path / "bin"
    for each in (folder, programs):
        each.mkdir()
    (folder / "letter.txt").write_text(LETTER)
    command = " ".join(mcp_servers().npm("server-filesystem"))
    (programs / "mcp-server-filesystem").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    (programs / "mcp-server-filesystem").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return folder


@pytest.fixture
def peers(letters: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    with a2a_agent(token=TOKEN) as agent, model_server() as model:
        monkeypatch.setenv("APFLOW_A2A_AGENTS", f"clerk={agent.url}")
        monkeypatch.setenv("APFLOW_SECRET_CLERK_TOKEN", TOKEN)
        monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "mcp-server-filesystem,wc")
        reset_settings()
        yield agent, model
    monkeypatch.undo()
    reset_settings()


async def test_an_agent_a_tool_a_model_and_a_program_work_together(
    peers: Peers, letters: Path, example_store: OpenStore
):
    agent, model = peers
    model.script.append(Reply(text="It will be returned."))
    text = EXAMPLE.read_text()
    for written, there in ((":8084", f":{model.port}"), ("/srv/letters", str(letters))):
        assert written in text
        text = text.replace(written, there)
    tasks: list[dict[str, Any]] = yaml.safe_load(text)
    async with example_store() as db:
        tree = await TaskCreator(db).create_task_tree_from_array(tasks)
        await TaskManager(db).distribute_task_tree(tree)
        results = {task.id: task.result for task in await db.tree("report")}
    assert (tree["status"], tree["error"]) == ("completed", None)
    assert int(results["length"]["stdout"]) == 12
    assert results["answer"]["agent"] == "Test agent"
    assert results["answer"]["text"] == LETTER  # the agent repeats what it receives
    assert results["answer"]["data"] == [{"words": results["length"]["stdout"]}]
    assert model.requests[0].body["messages"][-1]["content"] == results["answer"]["text"]
    assert (letters / "answer.txt").read_text() == "It will be returned."
    assert results["shorter"]["stdout"].split()[0] == "4"
    assert results["report"]["result_count"] == 4
    assert len(agent.messages) == 1
    assert TOKEN not in str(results)
