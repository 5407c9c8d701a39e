"""The former path of `apflow.executor.mcp`, which the extra `mcp` installs."""

from typing import TYPE_CHECKING

from aipartnerupflow.extensions.optional import optional_names

if TYPE_CHECKING:
    from apflow.executor.mcp import McpExecutor

__all__ = ["McpExecutor"]

__getattr__ = optional_names(__name__, "apflow.executor.mcp", __all__, extra="mcp")
