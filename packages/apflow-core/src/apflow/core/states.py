"""The status of a task, under its short path. It is defined in `apflow.core.model.status`."""

from apflow.core.model.status import MOVES, TERMINAL, TaskStatus

__all__ = ["MOVES", "TERMINAL", "TaskStatus"]
