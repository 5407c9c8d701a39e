"""Running the executor against the servers of the tests."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.processes import is_alive

from apflow.executor.mcp import McpExecutor

DEADLINE = 30.0
PROGRAM = Path(__file__).with_name("mcpprogram.py")


@dataclass(frozen=True)
class Program:
    """A server on standard input and output, and the file in which it records what it receives."""

    record: Path

    def inputs(self, operation: str, *, tools: int = 3, mode: str = "", **more: Any) -> dict[str, Any]:
        env = {"MCP_RECORD": str(self.record), "MCP_MODE": mode}
        command = [sys.executable, "-I", str(PROGRAM), str(tools)]
        return {"transport": "stdio", "operation": operation, "command": command, "env": env, **more}

    def calling(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return self.inputs("call_tool", tool_name=tool, arguments=arguments or {}, **more)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.record.read_text().splitlines()]
            if self.record.exists()
            else []
        )

    @property
    def pids(self) -> list[int]:
        return [each["pid"] for each in self.messages if "pid" in each]

    async def until(self, *, message: dict[str, Any]) -> None:
        limit = time.monotonic() + DEADLINE
        while not any(message.items() <= each.items() for each in self.messages):
            assert time.monotonic() < limit, self.messages
            await asyncio.sleep(0.02)

    @property
    def running(self) -> list[int]:
        return [pid for pid in self.pids if is_alive(pid)]


async def run(inputs: dict[str, Any]) -> Any:
    """Run the executor; return the result of the protocol."""
    done = await McpExecutor().execute(inputs)
    assert (done["success"], done["operation"]) == (True, inputs["operation"])
    return done["result"]


def said(result: dict[str, Any]) -> str:
    (block,) = result["content"]
    return block["text"]
