from typing import Any

from apflow.executor.docker import DockerExecutor
from apflow.testing.executor import ExecutorContract


class TestDockerExecutor(ExecutorContract):
    def make_executor(self) -> DockerExecutor:
        return DockerExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
