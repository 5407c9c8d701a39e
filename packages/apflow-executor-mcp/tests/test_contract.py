from typing import Any

import pytest
from peers.mcprunning import Program

from apflow.executor.mcp import McpExecutor
from apflow.testing.executor import ExecutorContract


class TestMcpExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def a_program(self, program: Program) -> None:
        self.program = program

    def make_executor(self) -> McpExecutor:
        return McpExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return self.program.calling("echo", {"a": 1})

    def slow_inputs(self) -> dict[str, Any]:
        return self.program.calling("slow")

    def check_result(self, result: Any) -> None:
        assert result == {
            "success": True,
            "operation": "call_tool",
            "transport": "stdio",
            "result": {"content": [{"type": "text", "text": '{"a": 1}'}], "structuredContent": {"a": 1}},
        }

    def check_stopped(self) -> None:
        assert self.program.running == []
