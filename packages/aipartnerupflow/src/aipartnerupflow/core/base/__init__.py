"""The former path of the base class of executors."""

from apflow.core import BaseTask

__all__ = ["BaseTask"]
