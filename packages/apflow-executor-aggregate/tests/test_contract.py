from typing import Any

from apflow.core.extensions.executor import ExecutableTask
from apflow.executor.aggregate import AggregateResultsExecutor
from apflow.testing.executor import ExecutorContract


class TestAggregateResultsExecutor(ExecutorContract):
    def make_executor(self) -> AggregateResultsExecutor:
        return AggregateResultsExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"mode": "collect"}

    def prepare(self, executor: ExecutableTask) -> None:
        executor.dependency_results = {"a": {"n": 1}, "b": [2]}

    def check_result(self, result: Any) -> None:
        assert result["results"] == {"a": {"n": 1}, "b": [2]}
