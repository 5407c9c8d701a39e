"""The former path of `TaskRepository`."""

from apflow.core import TaskRepository

__all__ = ["TaskRepository"]
