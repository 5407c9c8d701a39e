"""The executor `websocket_executor`: exchanges messages over a WebSocket."""

from apflow.executor.websocket.errors import (
    WebSocketClosedError,
    WebSocketError,
    WebSocketHandshakeError,
    WebSocketInputError,
    WebSocketRedirectedError,
    WebSocketRefusedError,
    WebSocketTimeoutError,
    WebSocketTlsError,
    WebSocketTooLargeError,
    WebSocketUnauthorizedError,
    WebSocketUnmatchedError,
)
from apflow.executor.websocket.executor import WebSocketExecutor

__all__ = [
    "WebSocketClosedError",
    "WebSocketError",
    "WebSocketExecutor",
    "WebSocketHandshakeError",
    "WebSocketInputError",
    "WebSocketRedirectedError",
    "WebSocketRefusedError",
    "WebSocketTimeoutError",
    "WebSocketTlsError",
    "WebSocketTooLargeError",
    "WebSocketUnauthorizedError",
    "WebSocketUnmatchedError",
]
