"""The former path of the interface of executors."""

from apflow.core import ExecutableTask

__all__ = ["ExecutableTask"]
