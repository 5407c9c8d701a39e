"""The former registry of tools, over the one of apflow."""

from __future__ import annotations

from apflow.core import Tool
from apflow.core.extensions.tools import get_tool, tool_ids, tool_register

__all__ = ["ToolRegistry", "get_tool_registry", "register_tool", "resolve_tool"]


def register_tool(tool: Tool | type[Tool], tool_id: str | None = None, override: bool = False) -> None:
    """Register a tool for this process.

    Args:
        tool: a class, of which each use makes an instance, or an instance.
        tool_id: the id to register under; None for the tool's own.
        override: replace another class that holds the id.

    Raises:
        ExtensionTakenError: another class holds the id and `override` is not given.
        InvalidInputError: the tool has no id.
    """
    tool_register(tool, tool_id=tool_id, override=override)


def resolve_tool(tool: str | Tool | type[Tool]) -> Tool:
    """Return an instance of a tool: of an id, of a class, or the instance itself.

    Raises:
        InvalidInputError: there is no tool of this id.
        PluginError: it cannot be loaded, or two distributions offer it.
    """
    if isinstance(tool, str):
        return get_tool(tool)
    return tool() if isinstance(tool, type) else tool


class ToolRegistry:
    """The tools of this process. All instances show the same ones."""

    def register(self, tool: Tool | type[Tool], tool_id: str | None = None, override: bool = False) -> None:
        """Register a tool; see `register_tool`."""
        register_tool(tool, tool_id, override)

    def get(self, tool_id: str) -> Tool:
        """Return a tool; see `resolve_tool`."""
        return get_tool(tool_id)

    def list_tools(self) -> list[str]:
        """Return the ids of the tools that are registered or installed, sorted."""
        return tool_ids()


def get_tool_registry() -> ToolRegistry:
    """Return the tools of this process."""
    return ToolRegistry()
