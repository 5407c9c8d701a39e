"""The former path of `TaskCreator`."""

from apflow.core import TaskCreator

__all__ = ["TaskCreator"]
