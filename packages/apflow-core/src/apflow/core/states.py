"""The status of a task, under its short path. It is defined in `apflow.core.model.status`."""

from apflow.core.model.status import TERMINAL, TRANSITIONS, TaskStatus

MOVES = TRANSITIONS  # the name of version 0.1.0

__all__ = ["MOVES", "TERMINAL", "TRANSITIONS", "TaskStatus"]
