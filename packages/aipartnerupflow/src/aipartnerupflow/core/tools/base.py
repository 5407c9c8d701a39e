"""The former path of `Tool`, and of its other name."""

from apflow.core import Tool
from apflow.core import Tool as BaseTool

__all__ = ["BaseTool", "Tool"]
