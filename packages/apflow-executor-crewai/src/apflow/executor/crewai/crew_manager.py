"""The executor that runs a crew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from apflow.core.errors import ValidationError
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.extensions.tools import get_tool
from apflow.executor.crewai.definition import CrewDefinition, fill, read_crew
from apflow.executor.crewai.running import CrewOutcome, run_crew
from apflow.executor.crewai.schema import INPUTS, SEQUENTIAL
from apflow.executor.crewai.session import CrewSession

Json = Any
Definitions = Sequence[Mapping[str, Json]] | Mapping[str, Mapping[str, Json]]


class CrewManager(BaseTask):
    """Runs a crew of CrewAI agents. The inputs fill the placeholders in its definition, such as `{topic}`.

    Args:
        name: the name of the crew, for people.
        agents: the agents: a list of `{role, goal, backstory, tools, llm, ...}`, or an object by names.
        tasks: the tasks, which are done in order: a list of `{name, description, expected_output, agent,
            tools, context}`, or an object by names. `agent` is the role, the name or the key of an agent.
        works: `{"agents": ..., "tasks": ...}`, in place of the two.
        llm: the model: `provider/model`, or an object with `model` and the other inputs of `llm_executor`. By
            default the model that `APFLOW_LLM_PROVIDER` and `APFLOW_LLM_MODEL` name, or `openai/gpt-4o`.
        process: "sequential", or "hierarchical": a manager gives the tasks to the agents.
        id: the id to register the instance by.
        description: what the crew does, for people.

    Raises:
        ValidationError: agents and tasks do not describe a crew; every violation with its path.
    """

    id = "crewai_executor"
    name = "CrewAI crew"
    description = "Runs a crew of CrewAI agents; the inputs fill its placeholders."
    inputs_schema: ClassVar[InputsSchema] = INPUTS
    uses_net_policy = True

    _crew: CrewDefinition | None = None
    _session: CrewSession | None = None

    def __init__(
        self,
        name: str | None = None,
        agents: Definitions | None = None,
        tasks: Definitions | None = None,
        works: Mapping[str, Json] | None = None,
        llm: str | Mapping[str, Json] | None = None,
        process: str = SEQUENTIAL,
        id: str | None = None,  # noqa: A002 - as in documents
        description: str | None = None,
    ) -> None:
        super().__init__()
        self.id, self.name = id or self.id, name or self.name
        self.description = description or self.description
        given = _given(agents, tasks, works)
        if given:
            own = {"process": process} | ({"llm": llm} if llm is not None else {})
            self._crew = read_crew(own | given, self.name)

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the crew, and return `{status, result, tasks, token_usage, cost_usd, calls, models}`.

        `result` is the output of the last task. If the crew fails, `status` is "failed", and `error`,
        `error_type`, `failed_at` and the `tasks` that were done say what happened.

        Raises:
            ValidationError: there is no crew, or a placeholder has no value. Nothing was sent.
            InvalidInputError, PluginError: a tool does not exist or cannot be loaded. Nothing was sent.
            CrewAIMissingError: CrewAI cannot be imported.
        """
        if self._crew is None:
            raise ValidationError(
                "The crew has no agents and tasks. Give them as params: "
                '{"agents": [{"role": ..., "goal": ...}], "tasks": [{"description": ..., "agent": ...}]}.',
                ["params.agents: required", "params.tasks: required"],
            )
        crew = fill(self._crew, inputs)
        for tool in crew.tools:
            get_tool(tool)
        session = self._session = CrewSession(self, (crew,))
        outcome = await run_crew(crew, session)
        return _result(outcome) | session.spent()

    async def cancel(self) -> dict[str, Any]:
        """Return what has been done so far. Cancelling `execute` then closes the connection to the model."""
        session = self._session
        if session is None or session.progress is None:
            return {}
        partial = {"crew": session.progress.crew.name, "tasks": list(session.progress.done)}
        spent = await session.spent_now()
        shown = {name: value for name, value in spent.items() if name != "token_usage"}
        where = {"cancelled_at": session.progress.place}
        return {"partial_result": partial | where | shown, "token_usage": spent["token_usage"]}


def _given(
    agents: Definitions | None, tasks: Definitions | None, works: Mapping[str, Json] | None
) -> dict[str, Json]:
    apart = {name: value for name, value in (("agents", agents), ("tasks", tasks)) if value is not None}
    if apart and works is not None:
        raise ValidationError(
            "Give agents and tasks either as `agents` and `tasks`, or as `works`.",
            ["works: not together with agents or tasks"],
        )
    return apart if works is None else dict(works)


def _result(outcome: CrewOutcome) -> dict[str, Json]:
    if outcome.error is None:
        return {"status": "completed", "result": outcome.result, "tasks": outcome.tasks}
    return {
        "status": "failed",
        "error": outcome.message,
        "error_type": type(outcome.error).__name__,
        "failed_at": outcome.failed_at,
        "tasks": outcome.tasks,
    }
