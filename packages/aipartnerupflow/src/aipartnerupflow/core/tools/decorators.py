"""The former path of `tool_register`."""

from apflow.core.extensions.tools import tool_register

__all__ = ["tool_register"]
