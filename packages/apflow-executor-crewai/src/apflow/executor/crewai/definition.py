"""Crews as programs and tasks define them: read, checked, and their placeholders filled.

Only the default model is read from the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from apflow.core.errors import ValidationError
from apflow.core.payload.schema import compile_schema
from apflow.executor.crewai.schema import (
    AGENT_OPTIONS,
    BATCH,
    CREW,
    EXPECTED_OUTPUT,
    HIERARCHICAL,
    SEQUENTIAL,
)
from apflow.executor.llm.model_choice import choose_model
from apflow.executor.llm.request import as_text

Json = Any

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")


@dataclass(frozen=True)
class AgentDefinition:
    """An agent of a crew."""

    role: str
    goal: str
    backstory: str
    tools: tuple[str, ...]  # ids of registered tools
    llm: Mapping[str, Json] = field(repr=False)  # inputs of a call of its model; may hold a key
    options: Mapping[str, Json]  # that CrewAI gets unchanged


@dataclass(frozen=True)
class TaskDefinition:
    """A CrewAI task: a part of the work of one apflow task."""

    name: str
    description: str
    expected_output: str
    agent: int | None  # the index of its agent; None: the manager of the crew chooses
    tools: tuple[str, ...]
    context: tuple[int, ...] | None  # the indices of earlier tasks; None: what CrewAI chooses
    markdown: bool


@dataclass(frozen=True)
class CrewDefinition:
    """A crew. `llm` are the inputs of the calls of its manager's model."""

    name: str
    agents: tuple[AgentDefinition, ...]
    tasks: tuple[TaskDefinition, ...]
    process: str
    llm: Mapping[str, Json] = field(repr=False)

    @property
    def tools(self) -> set[str]:
        """The ids of the tools that its agents and tasks use."""
        users: list[AgentDefinition | TaskDefinition] = [*self.agents, *self.tasks]
        return {tool for each in users for tool in each.tools}


def read_crew(given: Mapping[str, Json], name: str) -> CrewDefinition:
    """Return the crew that an object with `agents` and `tasks` describes.

    Args:
        given: `agents` and `tasks`, each a list or an object by names, and optionally `process` and `llm`.
        name: the name of the crew, for people.

    Raises:
        ValidationError: it does not describe a crew; every violation with its path.
    """
    _validate(CREW, given, "crew")
    return _crew(given, name, None, "crew")


def read_batch(given: Mapping[str, Json]) -> tuple[CrewDefinition, ...]:
    """Return the crews that an object with `works` describes, in order.

    Raises:
        ValidationError: it does not describe crews; every violation with its path.
    """
    _validate(BATCH, given, "batch")
    works: dict[str, dict[str, Json]] = given["works"]
    return tuple(_crew(work, name, given.get("llm"), f"batch.works.{name}") for name, work in works.items())


def fill(crew: CrewDefinition, values: Mapping[str, Json]) -> CrewDefinition:
    """Return a crew whose placeholders, such as `{topic}`, are replaced by values; JSON if not strings.

    Raises:
        ValidationError: a placeholder has no value.
    """
    check_placeholders(crew, values)

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(lambda found: as_text(values[found[1]]), text)

    return _mapped(crew, filled)


def check_placeholders(crew: CrewDefinition, known: Iterable[str]) -> None:
    """Check that each placeholder of a crew has a value.

    Raises:
        ValidationError: a placeholder has no value.
    """
    names = set(known)
    missing: dict[str, None] = {}  # in the order of the crew

    def note(text: str) -> str:
        missing.update((name, None) for name in _PLACEHOLDER.findall(text) if name not in names)
        return text

    _mapped(crew, note)
    if missing:
        shown = ", ".join(f"{{{name}}}" for name in missing)
        raise ValidationError(
            f"Crew {crew.name!r} has placeholders without a value: {shown}. Give them in the inputs. "
            f"Inputs given: {', '.join(sorted(names)) or 'none'}.",
            [f"inputs.{name}: required by a placeholder of crew {crew.name!r}" for name in missing],
        )


def _mapped(crew: CrewDefinition, change: Callable[[str], str]) -> CrewDefinition:
    """Return a crew with each string that may have placeholders changed."""
    agents = (
        replace(each, role=change(each.role), goal=change(each.goal), backstory=change(each.backstory))
        for each in crew.agents
    )
    tasks = (
        replace(each, description=change(each.description), expected_output=change(each.expected_output))
        for each in crew.tasks
    )
    return replace(crew, agents=tuple(agents), tasks=tuple(tasks))


def _validate(schema: dict[str, Json], given: Mapping[str, Json], path: str) -> None:
    compiled = compile_schema(schema)
    assert compiled is not None
    compiled.validate(dict(given), path)


def _crew(given: Mapping[str, Json], name: str, default_llm: Json, path: str) -> CrewDefinition:
    llm = given.get("llm", default_llm)
    agents, tasks = _named(given["agents"]), _named(given["tasks"])
    process: str = given.get("process", SEQUENTIAL)
    index_of = _indices(agents, "role", f"{path}.agents")
    task_index = _indices(tasks, "name", f"{path}.tasks")
    return CrewDefinition(
        name=name,
        agents=tuple(_agent(each, llm) for _, each in agents),
        tasks=tuple(
            _task(key, each, number, index_of, task_index, process, f"{path}.tasks")
            for number, (key, each) in enumerate(tasks)
        ),
        process=process,
        llm=_llm(llm),
    )


def _named(given: Json) -> list[tuple[str | None, dict[str, Json]]]:
    """Return agents or tasks with their keys; None in a list."""
    if isinstance(given, dict):
        return list(cast("dict[str, dict[str, Json]]", given).items())
    return [(None, each) for each in given]


def _indices(given: list[tuple[str | None, dict[str, Json]]], also: str, path: str) -> dict[str, int]:
    """Return the index of each agent or task by what others may call it: its key, name, and `also`."""
    found: dict[str, int] = {}
    for index, (key, each) in enumerate(given):
        names: set[str | None] = {key, each.get("name"), each.get(also)}
        for name in names:
            if name is None:
                continue
            if found.setdefault(name, index) != index:
                raise ValidationError(
                    f"{path}: two are called {name!r}. Give each one a different name.",
                    [f"{path}: {name!r} is not unique"],
                )
    return found


def _agent(given: dict[str, Json], llm: Json) -> AgentDefinition:
    return AgentDefinition(
        role=given["role"],
        goal=given["goal"],
        backstory=given.get("backstory", ""),
        tools=tuple(given.get("tools", ())),
        llm=_llm(given.get("llm", llm)),
        options={name: given[name] for name in AGENT_OPTIONS if name in given},
    )


def _task(
    key: str | None,
    given: dict[str, Json],
    number: int,
    agents: Mapping[str, int],
    tasks: Mapping[str, int],
    process: str,
    path: str,
) -> TaskDefinition:
    path = f"{path}[{number}]" if key is None else f"{path}.{key}"
    context = given.get("context")
    return TaskDefinition(
        name=given.get("name") or key or f"task {number + 1}",
        description=given["description"],
        expected_output=given.get("expected_output", EXPECTED_OUTPUT),
        agent=_agent_of(given.get("agent"), agents, process, path),
        tools=tuple(given.get("tools", ())),
        context=None if context is None else tuple(_earlier(each, number, tasks, path) for each in context),
        markdown=given.get("markdown", False),
    )


def _agent_of(name: str | None, agents: Mapping[str, int], process: str, path: str) -> int | None:
    if name is None:
        if process == HIERARCHICAL:
            return None
        if len(set(agents.values())) == 1:
            return 0
        raise ValidationError(
            f"{path}: the crew has several agents. Name the one that does the task, as `agent`.",
            [f"{path}.agent: required"],
        )
    if name not in agents:
        raise ValidationError(
            f"{path}: no agent is called {name!r}. There are: {', '.join(map(repr, agents))}.",
            [f"{path}.agent: {name!r} is not an agent of the crew"],
        )
    return agents[name]


def _earlier(name: str, number: int, tasks: Mapping[str, int], path: str) -> int:
    index = tasks.get(name)
    if index is None or index >= number:
        raise ValidationError(
            f"{path}: {name!r} is not the name of an earlier task of the crew.",
            [f"{path}.context: {name!r} is not an earlier task"],
        )
    return index


def _llm(given: Json) -> dict[str, Json]:
    """Return the inputs of a call of a model. Without a model: the environment's, else the default."""
    inputs: dict[str, Json] = {"model": given} if isinstance(given, str) else dict(given or {})
    model = choose_model(inputs, os.environ)
    inputs.pop("provider", None)
    return inputs | {"model": model}
