from typing import Any

from apflow.executor.approval import ApprovalExecutor
from apflow.testing.executor import ExecutorContract


class TestApprovalExecutor(ExecutorContract):
    """Outside of a task, the default decides after the timeout."""

    def make_executor(self) -> ApprovalExecutor:
        return ApprovalExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"question": "May it?", "timeout": 0.01, "on_timeout": "approve"}

    def slow_inputs(self) -> dict[str, Any]:
        return {"question": "May it?", "timeout": "1h"}

    def check_result(self, result: Any) -> None:
        assert (result["approved"], result["timed_out"], result["by"]) == (True, True, None)
