from typing import Any

import pytest
from peers.websocket import WebSocketPeer

from apflow.executor.websocket import WebSocketExecutor
from apflow.testing.executor import ExecutorContract


class TestWebSocketExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def a_peer(self, peer: WebSocketPeer) -> None:
        self.peer = peer

    def make_executor(self) -> WebSocketExecutor:
        return WebSocketExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"url": self.peer.url("/echo"), "message": {"a": 1}}

    def slow_inputs(self) -> dict[str, Any]:
        return {"url": self.peer.url("/frozen"), "message": "hello"}

    def check_result(self, result: Any) -> None:
        url = self.peer.url("/echo")
        assert result == {
            "success": True,
            "url": url,
            "message_sent": {"a": 1},
            "response": {"a": 1},
            "responses": [{"a": 1}],
        }

    def check_stopped(self) -> None:
        self.peer.until_gone("/frozen")
