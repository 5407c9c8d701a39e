from typing import Any

import pytest

from apflow.executor.llm import LLMExecutor
from apflow.testing.executor import ExecutorContract
from apflow.testing.modelserver import ModelServer, Reply


class TestLLMExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def at(self, server: ModelServer) -> None:
        self.server = server

    def make_executor(self) -> LLMExecutor:
        return LLMExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {
            "model": "openai/gpt-4o",
            "prompt": "Hello?",
            "api_base": self.server.openai_url,
            "api_key": "key",
        }

    def slow_inputs(self) -> dict[str, Any]:
        self.server.script.append(Reply(hang_after=1))
        return {**self.good_inputs(), "stream": True}

    def check_result(self, result: Any) -> None:
        assert result["content"] == "Hello from the model."

    def check_stopped(self) -> None:
        self.server.until(lambda: self.server.answering == 0)
