"""The former structural types of executors."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, runtime_checkable

from apflow.core import ExecutableTask

__all__ = ["ExecutorFactory", "ExecutorLike"]


@runtime_checkable
class ExecutorLike(Protocol):
    """What has the members of an executor, whatever it inherits from."""

    id: str
    name: str
    description: str

    def execute(self, inputs: dict[str, Any], /) -> Awaitable[Any] | Any:
        """Do the work and return plain JSON."""
        ...

    def get_input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `inputs`."""
        ...


class ExecutorFactory(Protocol):
    """What `executor_register(factory=...)` takes: makes an executor from the `params` of a task."""

    def __call__(self, **params: Any) -> ExecutableTask:
        """Return a new instance."""
        ...
