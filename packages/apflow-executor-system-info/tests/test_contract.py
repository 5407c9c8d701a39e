from typing import Any

from apflow.executor.system_info import SystemInfoExecutor
from apflow.testing.executor import ExecutorContract


class TestSystemInfoExecutor(ExecutorContract):
    def make_executor(self) -> SystemInfoExecutor:
        return SystemInfoExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {}
