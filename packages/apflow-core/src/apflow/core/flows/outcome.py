"""What a finished run returns to Python code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from apflow.core.errors import RunFailedError
from apflow.core.model.results import Results
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class FlowOutcome(Generic[R_co]):
    """How a tree ended."""

    status: TaskStatus
    progress: float  # 0.0 to 1.0
    root_task_id: str
    error: str | None  # of the first failure that counts
    tolerated: list[str]  # ids of failures that do not count
    results: Results  # key -> result of each completed task; the key of a task of a flow is its name
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
