"""The former path of `TaskExecutor`."""

from apflow.core import TaskExecutor

__all__ = ["TaskExecutor"]
