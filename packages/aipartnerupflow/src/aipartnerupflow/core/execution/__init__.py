"""The former path of what runs trees."""

from aipartnerupflow.core.execution.task_tracker import TaskTracker
from apflow.core import TaskCreator, TaskExecutor, TaskManager
from apflow.core.manager import StreamingCallbacks

__all__ = ["StreamingCallbacks", "TaskCreator", "TaskExecutor", "TaskManager", "TaskTracker"]
