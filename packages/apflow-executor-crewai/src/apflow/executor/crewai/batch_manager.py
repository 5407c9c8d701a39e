"""The executor that runs several crews as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from apflow.core.errors import ValidationError
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.extensions.tools import get_tool
from apflow.executor.crewai.definition import CrewDefinition, check_placeholders, fill, read_batch
from apflow.executor.crewai.running import CrewOutcome, run_crew
from apflow.executor.crewai.schema import INPUTS
from apflow.executor.crewai.session import CrewSession

Json = Any


class BatchManager(BaseTask):
    """Runs several crews, one after the other, as one piece of work: if one fails, the batch fails.

    The inputs fill the placeholders of all crews. A placeholder may also name an earlier crew of the batch:
    the result of that crew replaces it, unless an input has the name.

    Args:
        id: the id to register the instance by.
        name: the name of the batch, for people.
        works: the crews by name, each `{"agents": ..., "tasks": ...}` as for `CrewManager`, with an optional
            `process` and `llm`.
        llm: the model of the crews that name none, as for `CrewManager`.
        description: what the batch does, for people.

    Raises:
        ValidationError: `works` does not describe crews; every violation with its path.
    """

    id = "batch_crewai_executor"
    name = "CrewAI batch"
    description = "Runs several crews of CrewAI agents as one: if one fails, the batch fails."
    inputs_schema: ClassVar[InputsSchema] = INPUTS
    uses_net_policy = True

    _crews: tuple[CrewDefinition, ...] = ()
    _session: CrewSession | None = None
    _done: tuple[CrewOutcome, ...] = ()  # of the run: the crews that have completed

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - as in documents
        name: str | None = None,
        works: Mapping[str, Mapping[str, Json]] | None = None,
        llm: str | Mapping[str, Json] | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__()
        self.id, self.name = id or self.id, name or self.name
        self.description = description or self.description
        if works is not None:
            self._crews = read_batch({"works": works} | ({"llm": llm} if llm is not None else {}))

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the crews, and return `{status, result, crews, token_usage, cost_usd, calls, models}`.

        `result` has the result of each crew by its name, and `crews` what each of them did. If a crew fails,
        `status` is "failed", there is no `result`, and `error`, `error_type`, `failed_crew`, `failed_at` and
        the `crews` say what happened, and what had been done.

        Raises:
            ValidationError: there are no crews, or a placeholder has no value. Nothing was sent.
            InvalidInputError, PluginError: a tool does not exist or cannot be loaded. Nothing was sent.
            CrewAIMissingError: CrewAI cannot be imported.
        """
        self._check(inputs)
        session = self._session = CrewSession(self, self._crews)
        self._done = ()
        results: dict[str, Json] = {}
        for crew in self._crews:
            outcome = await run_crew(fill(crew, results | inputs), session)
            if outcome.is_failed:
                return self._failed(outcome) | session.spent()
            self._done = (*self._done, outcome)
            results[crew.name] = outcome.result
        return {"status": "completed", "result": results, "crews": _crews(self._done)} | session.spent()

    async def cancel(self) -> dict[str, Any]:
        """Return what has been done so far. Cancelling `execute` then closes the connection to the model."""
        session = self._session
        if session is None or session.progress is None:
            return {}
        progress = session.progress
        crews = _crews(self._done)
        if progress.crew.name not in crews:
            crews[progress.crew.name] = {"status": "cancelled", "tasks": list(progress.done)}
        spent = await session.spent_now()
        shown = {name: value for name, value in spent.items() if name != "token_usage"}
        partial = {"crews": crews, "cancelled_at": f"crew {progress.crew.name!r}, {progress.place}"}
        return {"partial_result": partial | shown, "token_usage": spent["token_usage"]}

    def _check(self, inputs: Mapping[str, Json]) -> None:
        """Check all crews before the first call of a model."""
        if not self._crews:
            raise ValidationError(
                "The batch has no crews. Give them as params: "
                '{"works": {NAME: {"agents": ..., "tasks": ...}}}.',
                ["params.works: required"],
            )
        known = set(inputs)
        for crew in self._crews:
            check_placeholders(crew, known)
            known.add(crew.name)
            for tool in crew.tools:
                get_tool(tool)

    def _failed(self, outcome: CrewOutcome) -> dict[str, Json]:
        number = len(self._done) + 1
        before = ", ".join(repr(each.name) for each in self._done)
        done = f"Completed before: {before}." if before else "No crew had completed."
        crews = _crews((*self._done, outcome))
        return {
            "status": "failed",
            "error": f"Crew {number} of {len(self._crews)} failed. {outcome.message} {done}",
            "error_type": type(outcome.error).__name__,
            "failed_crew": outcome.name,
            "failed_at": outcome.failed_at,
            "crews": crews,
        }


def _crews(outcomes: tuple[CrewOutcome, ...]) -> dict[str, dict[str, Json]]:
    return {
        each.name: {
            "status": "failed" if each.is_failed else "completed",
            "result": each.result,
            "tasks": each.tasks,
        }
        for each in outcomes
    }
