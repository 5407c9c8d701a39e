from typing import Any

from apflow.executor.grpc import GrpcExecutor
from apflow.testing.executor import ExecutorContract


class TestGrpcExecutor(ExecutorContract):
    def make_executor(self) -> GrpcExecutor:
        return GrpcExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
