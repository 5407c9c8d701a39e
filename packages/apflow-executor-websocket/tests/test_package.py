from typing import Any

from apflow.executor.websocket import WebSocketExecutor
from apflow.testing.executor import ExecutorContract


class TestWebsocketExecutor(ExecutorContract):
    def make_executor(self) -> WebSocketExecutor:
        return WebSocketExecutor()

    def good_inputs(self) -> dict[str, Any]:
        return {"text": "hello"}
