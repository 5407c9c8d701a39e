"""The former path of what knows the running trees: `TaskExecutor` does."""

from apflow.core import TaskExecutor as TaskTracker

__all__ = ["TaskTracker"]
