"""The former path of tools."""

from aipartnerupflow.core.tools.base import BaseTool, Tool
from aipartnerupflow.core.tools.registry import ToolRegistry, get_tool_registry, register_tool, resolve_tool
from apflow.core.extensions.tools import tool_register

__all__ = [
    "BaseTool",
    "Tool",
    "ToolRegistry",
    "get_tool_registry",
    "register_tool",
    "resolve_tool",
    "tool_register",
]
