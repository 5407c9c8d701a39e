"""The base class of executors, under its short path. It is defined in `apflow.core.extensions.executor`."""

from apflow.core.extensions.executor import BaseTask, ExecutableTask

__all__ = ["BaseTask", "ExecutableTask"]
