from typing import Any

import pytest
from peers.http import HttpPeer

from apflow.executor.http import RestExecutor
from apflow.testing.executor import ExecutorContract


class TestRestExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def at(self, peer: HttpPeer) -> None:
        self.peer = peer

    def make_executor(self) -> RestExecutor:
        return RestExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"url": self.peer.url("/echo"), "method": "POST", "json": {"a": 1}}

    def slow_inputs(self) -> dict[str, Any]:
        return {"url": self.peer.url("/hang")}

    def check_result(self, result: Any) -> None:
        assert result["json"]["json"] == {"a": 1}

    def check_stopped(self) -> None:
        self.peer.until(lambda: not self.peer.waiting["/hang"])
