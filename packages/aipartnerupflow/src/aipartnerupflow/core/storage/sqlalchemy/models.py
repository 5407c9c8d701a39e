"""The former path of `TaskModel`, to which programs add columns."""

from apflow.core import TaskStatus
from apflow.storage.sql import TaskModel

__all__ = ["TaskModel", "TaskStatus"]
