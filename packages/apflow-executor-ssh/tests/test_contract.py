from typing import Any

import pytest
from peers.sshd import Sshd

from apflow.executor.ssh import SshExecutor
from apflow.testing.executor import ExecutorContract


class TestSshExecutor(ExecutorContract):
    start_within = 0.5  # it has logged in by then

    @pytest.fixture(autouse=True)
    def use(self, server: Sshd) -> None:
        self.server = server

    def make_executor(self) -> SshExecutor:
        return SshExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {**self.server.inputs, "command": ["echo", "hello"]}

    def slow_inputs(self) -> dict[str, Any]:
        return {**self.server.inputs, "command": ["sleep", "61.5"]}

    def check_result(self, result: Any) -> None:
        assert result["stdout"] == "hello\n"

    def check_stopped(self) -> None:
        assert self.server.commands("sleep 61.5") == []
