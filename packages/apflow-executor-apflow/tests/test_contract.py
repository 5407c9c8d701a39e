from typing import Any

import pytest
from peers.apflowserver import ApflowServer, wait_for

from apflow.client import SyncClient
from apflow.executor.apflow import ApFlowApiExecutor
from apflow.testing.executor import ExecutorContract


class TestApFlowApiExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def at(self, server: ApflowServer) -> None:
        self.server = server

    def make_executor(self) -> ApFlowApiExecutor:
        return ApFlowApiExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return self.calling({"name": "far_say", "inputs": {"text": "hello"}})

    def slow_inputs(self) -> dict[str, Any]:
        return self.calling({"name": "far_hold"})

    def calling(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": self.server.url, "method": "tasks.execute", "params": {"tasks": [task]}}

    def check_result(self, result: Any) -> None:
        assert sorted(result) == ["base_url", "result", "status", "success", "task_id"]
        assert (result["result"], result["status"], result["success"]) == (
            {"said": "hello"},
            "completed",
            True,
        )

    def check_stopped(self) -> None:
        with SyncClient(self.server.url) as client:
            wait_for(lambda: client.tasks_running_count().count == 0)
