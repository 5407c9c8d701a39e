"""The former path of `BaseTask`."""

from apflow.core import BaseTask

__all__ = ["BaseTask"]
