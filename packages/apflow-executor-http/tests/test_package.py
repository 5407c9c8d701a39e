from typing import Any

from apflow.executor.http import RestExecutor
from apflow.testing.executor import ExecutorContract


class TestHttpExecutor(ExecutorContract):
    def make_executor(self) -> RestExecutor:
        return RestExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
