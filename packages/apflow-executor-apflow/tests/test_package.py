from typing import Any

from apflow.testing.executor import ExecutorContract
from apflow.executor.apflow import ApFlowApiExecutor


class TestApflowExecutor(ExecutorContract):
    def make_executor(self) -> ApFlowApiExecutor:
        return ApFlowApiExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
