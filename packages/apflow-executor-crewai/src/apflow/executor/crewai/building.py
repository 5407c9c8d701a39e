"""From the definition of a crew to CrewAI's own objects. This module imports CrewAI."""

from __future__ import annotations

from typing import Any, cast

from crewai import Agent, Crew, Process, Task

from apflow.executor.crewai.definition import AgentDefinition, CrewDefinition, TaskDefinition
from apflow.executor.crewai.schema import HIERARCHICAL
from apflow.executor.crewai.session import CrewSession
from apflow.executor.crewai.session_llm import session_llm
from apflow.executor.crewai.session_tool import session_tool


def kickoff(crew: CrewDefinition, session: CrewSession) -> str:
    """Run a crew, and return the output of its last task. It blocks, and must run in a thread.

    Raises:
        Stopped: the run was stopped, or a call of a model failed.
        Exception: CrewAI failed.
    """
    output: Any = cast("Any", build(crew, session)).kickoff()  # without streaming, an output
    return str(output.raw)


def build(crew: CrewDefinition, session: CrewSession) -> Crew:
    """Return the crew of a definition without placeholders."""
    agents = [_agent(each, session) for each in crew.agents]
    tasks: list[Task] = []
    for each in crew.tasks:
        tasks.append(_task(each, agents, tasks, session))
    is_hierarchical = crew.process == HIERARCHICAL
    return Crew(
        name=crew.name,
        agents=[*agents],
        tasks=tasks,
        process=Process.hierarchical if is_hierarchical else Process.sequential,
        manager_llm=session_llm(session, crew.llm) if is_hierarchical else None,
        verbose=False,
        memory=False,
        share_crew=False,
        tracing=False,
    )


def _agent(definition: AgentDefinition, session: CrewSession) -> Agent:
    options: dict[str, Any] = dict(definition.options)
    return Agent(
        role=definition.role,
        goal=definition.goal,
        backstory=definition.backstory,
        llm=session_llm(session, definition.llm),
        tools=[session_tool(session, each) for each in definition.tools],
        max_retry_limit=0,
        verbose=False,
        **options,
    )


def _task(definition: TaskDefinition, agents: list[Agent], earlier: list[Task], session: CrewSession) -> Task:
    more: dict[str, Any] = {}
    if definition.context is not None:
        more["context"] = [earlier[index] for index in definition.context]
    if definition.agent is not None:
        more["agent"] = agents[definition.agent]

    def ended(output: Any) -> None:
        session.task_ended(definition.name, str(output.agent), str(output.raw))

    return Task(
        name=definition.name,
        description=definition.description,
        expected_output=definition.expected_output,
        tools=[session_tool(session, each) for each in definition.tools],
        markdown=definition.markdown,
        callback=ended,
        **more,
    )
