"""What a finished run returns to Python code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from apflow.core.errors import RunFailedError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class FlowOutcome(Generic[R_co]):
    """How a tree ended."""

    status: TaskStatus
    progress: float  # 0.0 to 1.0
    root_task_id: str
    error: str | None  # of the first failure that counts
    tolerated: list[str]  # ids of failures that do not count
    results: Mapping[str, Json]  # name -> result of each completed task
    _result: Json = field(repr=False)
    _convert: Callable[[Json], R_co] = field(repr=False)

    @property
    def result(self) -> R_co:
        """The result of the root: what the flow returns, as the type that it declares.

        Raises:
            RunFailedError: the tree has not completed.
            ValidationError: the result is not of that type.
        """
        if self.status is not TaskStatus.COMPLETED:
            raise RunFailedError(self.root_task_id, str(self.status), self.error)
        return self._convert(self._result)


def results_by_name(names: Mapping[str, str], tasks: Iterable[Task]) -> dict[str, Json]:
    """Return the result of each completed task under its name.

    Args:
        names: name -> id of the task.
    """
    found = {task.id: task.result for task in tasks if task.status is TaskStatus.COMPLETED}
    return {name: found[task_id] for name, task_id in names.items() if task_id in found}
