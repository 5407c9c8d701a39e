from typing import Any

import pytest
from peers.engine import IMAGE, Engine

from apflow.executor.docker import DockerExecutor
from apflow.testing.executor import ExecutorContract


class TestDockerExecutor(ExecutorContract):
    start_within = 1.0

    @pytest.fixture(autouse=True)
    def take_engine(self, engine: Engine) -> None:
        self.engine = engine

    def make_executor(self) -> DockerExecutor:
        return DockerExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"image": IMAGE, "command": ["echo", "hello"], "pull": "never"}

    def slow_inputs(self) -> dict[str, Any]:
        return {"image": IMAGE, "command": ["sleep", "600"], "pull": "never"}

    def check_result(self, result: Any) -> None:
        assert result["stdout"] == "hello\n"

    def check_stopped(self) -> None:
        assert self.engine.containers() == []
