"""The former path of `Tool`."""

from apflow.core import Tool

__all__ = ["Tool"]
