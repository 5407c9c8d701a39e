"""The client that the MCP conformance suite tests: the executor, in the operations of a scenario.

    python -P mcpclient.py URL

MCP_CONFORMANCE_SCENARIO names the scenario, MCP_CONFORMANCE_CONTEXT has what it gives, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from apflow.executor.mcp import McpExecutor
from apflow.executor.mcp.pool import close_connections

Inputs = dict[str, Any]

CALLS: dict[str, list[Inputs]] = {
    "initialize": [],
    "tools_call": [{"tool_name": "add_numbers", "arguments": {"a": 5, "b": 3}}],
    "sse-retry": [{"tool_name": "test_reconnection"}],
}


async def main(scenario: str, url: str) -> None:
    """Perform the operations of a scenario."""
    server: Inputs = {"transport": "http", "url": url, "timeout": 20}
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    if "client_secret" in given:
        server["auth"] = {name: given[name] for name in ("client_id", "client_secret")}
    tools = (await perform(server | {"operation": "list_tools"}))["tools"]
    for tool in tools if scenario == "json-schema-2020-12-preservation" else []:
        if tool["name"] == "json_schema_2020_12_tool":
            echo = {"tool_name": "json_schema_echo", "arguments": {"schema": tool["inputSchema"]}}
            await perform(server | {"operation": "call_tool"} | echo)
    for call in CALLS.get(scenario, []):
        await perform(server | {"operation": "call_tool"} | call)
    await close_connections()


async def perform(inputs: Inputs) -> Any:
    return (await McpExecutor().execute(inputs))["result"]


if __name__ == "__main__":
    asyncio.run(main(os.environ["MCP_CONFORMANCE_SCENARIO"], sys.argv[-1]))
