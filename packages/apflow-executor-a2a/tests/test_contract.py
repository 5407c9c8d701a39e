from typing import Any

import pytest
from peers.a2aagent import A2aAgent

from apflow.executor.a2a import A2aExecutor, NamedA2aExecutor, named_agent
from apflow.testing.executor import ExecutorContract


class TestA2aExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def at(self, agent: A2aAgent) -> None:
        self.agent = agent

    def make_executor(self) -> A2aExecutor:
        return A2aExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"agent": self.agent.url, "message": "hello you"}

    def slow_inputs(self) -> dict[str, Any]:
        return {"agent": self.agent.url, "message": "hold"}

    def check_result(self, result: Any) -> None:
        assert (result["text"], result["status"], result["success"]) == ("Hello you", "completed", True)

    def check_stopped(self) -> None:
        assert self.agent.working == set()


class TestNamedA2aExecutor(TestA2aExecutor):
    def make_executor(self) -> NamedA2aExecutor:
        return named_agent("tester", self.agent.url)

    def good_inputs(self) -> dict[str, Any]:
        return {"message": "hello you"}

    def slow_inputs(self) -> dict[str, Any]:
        return {"message": "hold"}
