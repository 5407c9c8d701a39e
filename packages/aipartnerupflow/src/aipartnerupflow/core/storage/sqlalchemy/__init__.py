"""The former path of what SQL stores share."""

from apflow.core import TaskRepository
from apflow.storage.sql import TaskModel

__all__ = ["TaskModel", "TaskRepository"]
