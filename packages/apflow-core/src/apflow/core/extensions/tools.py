"""Tools: reusable pieces of work that executors call, by id.

A tool is had from this process (registered in code) or from an installed distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from apflow.core import plugins
from apflow.core.errors import InvalidInputError, PluginLoadError
from apflow.core.extensions.registry import Extension, ExtensionCategory, get_registry

GROUP = "apflow.tools"


class Tool(Extension, ABC):
    """One operation with described inputs, to be used by executors."""

    category = ExtensionCategory.TOOL

    @abstractmethod
    async def execute(self, inputs: dict[str, Any]) -> Any:
        """Do the work and return plain JSON."""

    def get_input_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of `inputs`. Unless overridden, everything is accepted."""
        return {"type": "object", "properties": {}}


AnyTool = TypeVar("AnyTool", bound=Tool | type[Tool])


@overload
def tool_register(tool: AnyTool, *, tool_id: str | None = None, override: bool = False) -> AnyTool: ...
@overload
def tool_register(
    tool: None = None, *, tool_id: str | None = None, override: bool = False
) -> Callable[[AnyTool], AnyTool]: ...
def tool_register(tool: Any = None, *, tool_id: str | None = None, override: bool = False) -> Any:
    """Register a tool: a decorator with or without a call, or a call with a class or an instance.

    Args:
        tool_id: the id to register under; by default the tool's own.
        override: replace another class that holds the id.

    Raises:
        ExtensionTakenError: another class holds the id and `override` is not given.
    """

    def register(given: Any) -> Any:
        get_registry().register(given, tool_id, override)
        return given

    return register if tool is None else register(tool)


def get_tool(tool_id: str) -> Tool:
    """Return a tool: the registered instance, or a new one of the class that is registered or installed.

    Raises:
        InvalidInputError: there is none of this id.
        PluginLoadError: it cannot be loaded.
        PluginConflictError: two distributions offer it.
    """
    found = get_registry().get_by_id(tool_id, ExtensionCategory.TOOL) or _load(tool_id)
    return cast("Tool", found() if isinstance(found, type) else found)


def tool_ids() -> list[str]:
    """Return the ids of all tools, registered or installed, sorted. Imports nothing."""
    return sorted({*get_registry().ids(ExtensionCategory.TOOL), *plugins.names(GROUP)})


def _load(tool_id: str) -> Tool | type[Tool]:
    info = plugins.find(GROUP, tool_id)
    if info is None:
        raise InvalidInputError(
            f"No tool is called {tool_id!r}. There are: {', '.join(tool_ids()) or 'none'}."
        )
    loaded = plugins.load(GROUP, tool_id)
    if isinstance(loaded, Tool) or (isinstance(loaded, type) and issubclass(loaded, Tool)):
        return loaded
    raise PluginLoadError(
        GROUP, tool_id, info.distribution, info.version, f"{info.value} is not a Tool class"
    )
