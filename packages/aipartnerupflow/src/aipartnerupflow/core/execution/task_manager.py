"""The former path of `TaskManager`."""

from apflow.core import TaskManager

__all__ = ["TaskManager"]
