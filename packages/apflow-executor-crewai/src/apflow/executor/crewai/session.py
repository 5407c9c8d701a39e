"""What the crews of one run share: calls of models, tools, usage, and where the work is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.tools import Tool
from apflow.executor.crewai.bridge import LoopBridge, Stopped
from apflow.executor.crewai.definition import CrewDefinition
from apflow.executor.llm import LLMExecutor, LLMRequestError
from apflow.executor.llm.call import Answer
from apflow.executor.llm.request import read_request
from apflow.executor.llm.schema import TIMEOUT
from apflow.executor.llm.structured import JsonAnswer
from apflow.executor.llm.usage import Usage

Json = Any

# What the engine sets on an executor. A call of a model has it from the crew's.
_OF_THE_RUN = (
    "task_id", "root_task_id", "user_id", "stored_task", "attempts", "idempotency_key", "policy_effect",
    "cancellation_checker", "task_log", "running_call",
)  # fmt: skip


@dataclass
class CrewProgress:
    """How far a crew is."""

    crew: CrewDefinition
    done: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])

    @property
    def place(self) -> str:
        """The task that runs, for people: `task 2 of 3, "review" (Editor)`."""
        total = len(self.crew.tasks)
        number = min(len(self.done), total - 1)
        task = self.crew.tasks[number]
        agent = "" if task.agent is None else f" ({self.crew.agents[task.agent].role})"
        return f'task {number + 1} of {total}, "{task.name}"{agent}'


class CrewSession:
    """One run of an executor: its crews call models, use tools and report progress by it.

    The methods of the first part are called in the thread of a crew, the others on the event loop.

    Args:
        executor: the one that runs.
        crews: all crews of the run, in order.
    """

    def __init__(self, executor: ExecutableTask, crews: tuple[CrewDefinition, ...]) -> None:
        self.bridge = LoopBridge()
        self.progress: CrewProgress | None = None  # of the crew that runs
        self.failure: Exception | None = None  # of a call of a model; it ended the crew
        self._executor = executor
        self._crews = crews
        self._tasks_done = 0
        self._usage, self._calls = Usage(), 0
        self._models: dict[str, None] = {}
        self._open: dict[int, LLMExecutor] = {}  # calls that have not ended

    # In the thread of a crew

    def ask(self, inputs: Mapping[str, Json]) -> Answer | JsonAnswer:
        """Call a model, and wait for the answer.

        Args:
            inputs: as those of `llm_executor`.

        Raises:
            Stopped: the run was stopped, or the call failed: `failure` is the error.
            LLMRequestError: the model refuses the request. CrewAI may have a remedy: it shortens what is too
                long. The same refusal again ends the crew.
        """
        try:
            answered = self.bridge.call(lambda: self._ask(inputs))
        except LLMRequestError as error:
            if isinstance(self.failure, LLMRequestError):
                raise Stopped from None
            self.failure = error
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the crew
            self.failure = error
            raise Stopped from None
        self.failure = None
        return answered

    def use(self, tool: Tool, inputs: dict[str, Json]) -> Json:
        """Execute a tool, and wait for its result.

        Raises:
            Stopped: the run was stopped.
            Exception: what the tool raises.
        """
        self._executor.log(f"Tool {tool.id!r} is called.", level="DEBUG")
        return self.bridge.call(lambda: tool.execute(inputs))

    def task_ended(self, name: str, agent: str, output: str) -> None:
        """Record that a task of the crew has ended."""
        progress = self.progress
        assert progress is not None
        progress.done.append({"name": name, "agent": agent, "output": output})
        self._tasks_done += 1
        if len(progress.done) < len(progress.crew.tasks):
            self._report_place()

    # On the event loop

    def begin(self, crew: CrewDefinition) -> CrewProgress:
        """Begin with a crew."""
        self.failure = None
        self.progress = CrewProgress(crew)
        self._report_place()
        return self.progress

    def spent(self) -> dict[str, Json]:
        """Return what the calls of models took that have ended, as results have it."""
        return _spent(self._usage, self._calls, list(self._models))

    async def spent_now(self) -> dict[str, Json]:
        """Return what all calls of models took so far; those that have not ended are estimated."""
        usage, calls = self._usage, self._calls
        models = dict(self._models)
        for call in list(self._open.values()):
            partial = await call.cancel()
            counted: dict[str, Json] = partial.get("token_usage") or {}
            shown: dict[str, Json] = partial.get("partial_result") or {}
            calls += 1
            if shown.get("model"):
                models[shown["model"]] = None
            usage += Usage(
                prompt_tokens=counted.get("prompt_tokens", 0),
                completion_tokens=counted.get("completion_tokens", 0),
                cached_tokens=counted.get("cached_tokens", 0),
                reasoning_tokens=counted.get("reasoning_tokens", 0),
                cost_usd=shown.get("cost_usd"),
                is_estimated=bool(counted.get("is_estimated")),
            )
        return _spent(usage, calls, list(models))

    async def _ask(self, inputs: Mapping[str, Json]) -> Answer | JsonAnswer:
        call = LLMExecutor()
        for name in _OF_THE_RUN:
            setattr(call, name, getattr(self._executor, name))
        call.event_queue = _TextOfTheCall(self)
        self._open[id(call)] = call
        try:
            answered = await call.answer(read_request(inputs), float(inputs.get("timeout") or TIMEOUT))
        finally:
            del self._open[id(call)]
            self._usage += call.usage
            self._calls += 1
        answer = answered.answer if isinstance(answered, JsonAnswer) else answered
        self._models[answer.model] = None
        return answered

    def _report_place(self) -> None:
        progress = self.progress
        assert progress is not None
        message = f"Crew {progress.crew.name!r}: {progress.place}"
        self._executor.log(message)
        self.bridge.send(lambda: self.report(message, 0.0, None))

    def report(self, message: str | None, share: float, data: Json) -> None:
        """Send a progress event.

        Args:
            share: of the present task that is done, 0.0 to 1.0.
        """
        queue = self._executor.event_queue
        if queue is None:
            return
        total = sum(len(crew.tasks) for crew in self._crews)
        event = {"type": "progress", "task_id": self._executor.task_id, "message": message, "data": data}
        queue.put_nowait(event | {"progress": (self._tasks_done + share) / total})


class _TextOfTheCall:
    """Turns the progress of a call of a model into progress of the crew."""

    def __init__(self, session: CrewSession) -> None:
        self._session = session

    async def put(self, event: dict[str, Json], /) -> None:
        """Send one event."""
        self.put_nowait(event)

    def put_nowait(self, event: dict[str, Json], /) -> None:
        """Send one event from code that cannot wait."""
        progress = self._session.progress
        place = {} if progress is None else {"crew": progress.crew.name, "task": progress.place}
        # The calls of a task are not known beforehand: their text moves its progress, but never to its end.
        share = float(event.get("progress") or 0.0) / 2
        self._session.report(None, share, {**(event.get("data") or {}), **place})


def _spent(usage: Usage, calls: int, models: list[str]) -> dict[str, Json]:
    return {
        "token_usage": usage.as_json(),
        "cost_usd": usage.cost_usd,
        "calls": calls,
        "models": models,
    }
