"""What crews may say, and what is wrong with those that say something else."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.errors import ValidationError
from apflow.executor.crewai import BatchManager, CrewManager
from apflow.executor.crewai.definition import fill, read_batch, read_crew

ANALYST: dict[str, Any] = {"role": "Analyst", "goal": "Analyze data"}
WRITER: dict[str, Any] = {"role": "Writer", "goal": "Write"}


def crew(**changed: Any) -> dict[str, Any]:
    return {"agents": [ANALYST, WRITER], "tasks": [{"description": "Do", "agent": "Analyst"}], **changed}


def test_lists_and_objects_by_names_describe_the_same_crew():
    lists = crew(tasks=[
        {"name": "analyze", "description": "Analyze {topic}", "agent": "Analyst"},
        {"name": "write", "description": "Write", "agent": "Writer", "context": ["analyze"]},
    ])  # fmt: skip
    objects = {
        "agents": {"analyst": ANALYST, "writer": WRITER},
        "tasks": {
            "analyze": {"description": "Analyze {topic}", "agent": "analyst"},
            "write": {"description": "Write", "agent": "writer", "context": ["analyze"]},
        },
    }
    assert read_crew(lists, "c") == read_crew(objects, "c")
    assert CrewManager("c", works=objects)._crew == CrewManager("c", **lists)._crew


def test_a_crew_of_one_agent_does_not_have_to_name_it():
    found = read_crew(crew(agents=[ANALYST], tasks=[{"description": "Do"}]), "c")
    assert found.tasks[0].agent == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (crew(agents=[{"role": "Analyst"}]), r"crew\.agents\[0\].*goal"),
        (crew(agents=[]), r"crew\.agents"),
        (crew(agents=[ANALYST | {"memory": True}]), "memory"),
        (crew(agents=[ANALYST, ANALYST]), "two are called 'Analyst'"),
        (crew(tasks=[{"description": "Do"}]), "has several agents"),
        (crew(tasks=[{"description": "Do", "agent": "Clerk"}]), "no agent is called 'Clerk'"),
        (crew(tasks=[{"description": "Do", "agent": "Analyst", "context": ["x"]}]), "'x' is not the name"),
        (crew(tasks=[{"description": "Do", "agent": "Analyst", "output_file": "x"}]), "output_file"),
        (crew(process="random"), "process"),
        (crew(llm={"model": "openai/x", "tools": []}), "llm"),
    ],
)
def test_a_crew_that_cannot_run_is_refused_with_the_place_of_the_fault(given: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        read_crew(given, "c")


def test_agents_and_tasks_are_given_in_one_way():
    with pytest.raises(ValidationError, match="either"):
        CrewManager(agents=[ANALYST], works=crew())


def test_placeholders_are_filled_and_other_braces_stay():
    given = crew(tasks=[{"description": 'Sum {rows} as {"total": 1} for {who}', "agent": "Analyst"}])
    filled = fill(read_crew(given, "c"), {"rows": [1, 2], "who": "Ann", "more": None})
    assert filled.tasks[0].description == 'Sum 1\n\n2 as {"total": 1} for Ann'


def test_a_placeholder_without_a_value_is_named():
    given = crew(agents=[ANALYST | {"goal": "{goal}"}], tasks=[{"description": "About {topic}"}])
    with pytest.raises(ValidationError, match=r"\{goal\}, \{topic\}.*Inputs given: x") as caught:
        fill(read_crew(given, "c"), {"x": 1})
    assert [violation.partition(":")[0] for violation in caught.value.violations] == [
        "inputs.goal", "inputs.topic",
    ]  # fmt: skip


def test_an_agent_has_its_own_model_or_the_one_of_the_crew(monkeypatch: pytest.MonkeyPatch):
    own = ANALYST | {"llm": {"model": "anthropic/claude-sonnet-4-5", "api_key": "k"}}
    found = read_crew(crew(agents=[own, WRITER], llm={"model": "openai/x", "temperature": 0.5}), "c")
    assert found.agents[0].llm == {"model": "anthropic/claude-sonnet-4-5", "api_key": "k"}
    assert found.agents[1].llm == {"model": "openai/x", "temperature": 0.5}
    monkeypatch.setenv("APFLOW_LLM_PROVIDER", "anthropic")
    assert read_crew(crew(), "c").llm == {"model": "anthropic/claude-sonnet-4-5"}


def test_the_crews_of_a_batch_are_checked_with_their_names():
    with pytest.raises(ValidationError, match=r"batch\.works\.second"):
        read_batch({"works": {"first": crew(), "second": {"agents": [ANALYST]}}})
    with pytest.raises(ValidationError, match="works"):
        BatchManager(works={})


async def test_an_executor_without_a_crew_says_what_to_give():
    with pytest.raises(ValidationError, match="params"):
        await CrewManager().execute({})
    with pytest.raises(ValidationError, match="works"):
        await BatchManager().execute({})
