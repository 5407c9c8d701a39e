"""The example in which an agent, a language model and a program use each other's results, with real peers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from peers.a2aagent import A2aAgent, a2a_agent

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.settings import reset_settings
from apflow.testing.modelserver import ModelServer, Reply, model_server

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "agents" / "tree.yaml"
TOKEN = "the-token-of-the-clerk"
Peers = tuple[A2aAgent, ModelServer]

# Of the import of LiteLLM.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"),
    pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"),
]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    with a2a_agent(token=TOKEN) as agent, model_server() as model:
        monkeypatch.setenv("APFLOW_A2A_AGENTS", f"clerk={agent.url}")
        monkeypatch.setenv("APFLOW_SECRET_CLERK_TOKEN", TOKEN)
        monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "wc")
        reset_settings()
        yield agent, model
    monkeypatch.undo()
    reset_settings()


async def test_an_agent_a_model_and_a_program_work_together(peers: Peers, tmp_path: Path):
    agent, model = peers
    model.script.append(Reply(text="It will be returned."))
    text = EXAMPLE.read_text()
    assert ":8084" in text
    tasks: list[dict[str, Any]] = yaml.safe_load(text.replace(":8084", f":{model.port}"))
    async with create_session(f"duckdb:///{tmp_path}/agents.duckdb") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(tasks)
        await TaskManager(db).distribute_task_tree(tree)
        results = {task.id: task.result for task in await db.tree("report")}
    assert (tree["status"], tree["error"]) == ("completed", None)
    assert int(results["length"]["stdout"]) == 12
    assert results["answer"]["agent"] == "Test agent"
    assert results["answer"]["data"] == [{"words": results["length"]["stdout"]}]
    assert model.requests[0].body["messages"][-1]["content"] == results["answer"]["text"]
    assert int(results["shorter"]["stdout"]) == 4
    assert results["report"]["result_count"] == 4
    assert len(agent.messages) == 1
    assert TOKEN not in str(results)
