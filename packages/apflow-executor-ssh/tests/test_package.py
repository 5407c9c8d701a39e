from typing import Any

from apflow.executor.ssh import SshExecutor
from apflow.testing.executor import ExecutorContract


class TestSshExecutor(ExecutorContract):
    def make_executor(self) -> SshExecutor:
        return SshExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
