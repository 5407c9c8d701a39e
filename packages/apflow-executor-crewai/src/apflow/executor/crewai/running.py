"""Running a crew in a thread, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apflow.core.concurrency.thread_pool import ThreadPool
from apflow.executor.crewai.bridge import Stopped
from apflow.executor.crewai.definition import CrewDefinition
from apflow.executor.crewai.errors import CrewFailedError
from apflow.executor.crewai.library import load_crewai
from apflow.executor.crewai.session import CrewSession

Json = Any

MAX_CREWS = 256  # that run at once in a process: each one takes a thread

_threads = ThreadPool("apflow-crew", MAX_CREWS)


@dataclass(frozen=True)
class CrewOutcome:
    """The outcome of a crew.

    Attributes:
        result: the output of the last task; None if the crew failed.
        tasks: the tasks that ended, each as `{name, agent, output}`.
        failed_at: the task that failed, for people; None if none did.
        error: what failed.
    """

    name: str
    result: str | None
    tasks: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    failed_at: str | None = None
    error: Exception | None = None

    @property
    def is_failed(self) -> bool:
        return self.error is not None

    @property
    def message(self) -> str:
        """What failed, where, and what had been done, for people."""
        done = ", ".join(f'"{each["name"]}"' for each in self.tasks)
        return (
            f"Crew {self.name!r} failed at {self.failed_at}: {self.error} "
            f"{f'Done before: {done}.' if done else 'No task was done before.'}"
        )


async def run_crew(crew: CrewDefinition, session: CrewSession) -> CrewOutcome:
    """Run a crew whose placeholders are filled.

    If this is cancelled, the connection to the model closes, and the crew ends before `CancelledError` is
    raised.

    Raises:
        CrewAIMissingError: CrewAI cannot be imported.
    """
    await load_crewai()
    progress = session.begin(crew)
    result, error = await _threads.run(lambda: _kickoff(crew, session), stop=session.bridge.stop)
    if error is None:
        return CrewOutcome(crew.name, result, progress.done)
    return CrewOutcome(crew.name, None, progress.done, progress.place, error)


def _kickoff(crew: CrewDefinition, session: CrewSession) -> tuple[str | None, Exception | None]:
    """Run a crew in this thread; return the result, or the error that ended it."""
    from apflow.executor.crewai.building import kickoff

    try:
        session.bridge.check()
        return kickoff(crew, session), None
    except Stopped:
        return None, session.failure or CrewFailedError(Stopped("it was stopped"))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it exits where a prompt is too long
        return None, session.failure or CrewFailedError(error)
