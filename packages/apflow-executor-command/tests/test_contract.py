from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core.settings import reset_settings
from apflow.executor.command import CommandExecutor
from apflow.testing.executor import ExecutorContract


@pytest.fixture(autouse=True)
def any_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", "*")
    reset_settings()
    yield
    reset_settings()


class TestCommandExecutor(ExecutorContract):
    def make_executor(self) -> CommandExecutor:
        return CommandExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"command": ["echo", "hello"]}

    def slow_inputs(self) -> dict[str, Any]:
        return {"command": ["sleep", "60"]}

    def check_result(self, result: Any) -> None:
        assert result["stdout"] == "hello\n"
