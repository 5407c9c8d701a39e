"""The former path of `ExecutableTask`."""

from apflow.core import ExecutableTask

__all__ = ["ExecutableTask"]
