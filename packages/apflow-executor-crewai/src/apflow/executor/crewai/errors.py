"""What can go wrong with a crew, beside what can go wrong with a call of a model."""

from __future__ import annotations

from apflow.core.errors import ExecutorError, PluginError


class CrewAIMissingError(PluginError):
    """CrewAI cannot be imported."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"CrewAI cannot be imported: {cause}. Install it, with Python 3.11 to 3.13: "
            "pip install apflow-executor-crewai."
        )


class CrewFailedError(ExecutorError):
    """CrewAI ended a crew for another reason than a failed call of a model."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"CrewAI ended the crew: {type(cause).__name__}: {cause}")
