"""The executor `mcp_executor`: calls the tools of MCP servers, and reads their resources and prompts."""

from apflow.executor.mcp.errors import (
    McpAuthError,
    McpConnectError,
    McpDiscoveryError,
    McpError,
    McpHttpError,
    McpInputError,
    McpInputRequiredError,
    McpLostError,
    McpProtocolError,
    McpRequestError,
    McpSessionEndedError,
    McpTimeoutError,
    McpTooLargeError,
    McpToolError,
)
from apflow.executor.mcp.executor import McpExecutor

__all__ = [
    "McpAuthError",
    "McpConnectError",
    "McpDiscoveryError",
    "McpError",
    "McpExecutor",
    "McpHttpError",
    "McpInputError",
    "McpInputRequiredError",
    "McpLostError",
    "McpProtocolError",
    "McpRequestError",
    "McpSessionEndedError",
    "McpTimeoutError",
    "McpTooLargeError",
    "McpToolError",
]
