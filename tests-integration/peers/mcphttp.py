"""An MCP server over streamable HTTP, in a thread, written without the library, that misbehaves on request.

The path of the address says how it behaves: `/json` and `/sse` respond properly, the others do not.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

INFO = {"name": "mcphttp", "version": "1"}
TASKS = "io.modelcontextprotocol/tasks"
COMPLETE = {"resultType": "complete"}
UNCACHED = {"ttlMs": 0, "cacheScope": "private"}
TASK = {
    "taskId": "t-1",
    "createdAt": "2026-07-28T10:00:00Z",
    "lastUpdatedAt": "2026-07-28T10:00:00Z",
    "ttlMs": 60_000,
    "pollIntervalMs": 100,
}
DEADLINE = 30.0


@dataclass
class McpPeer:
    """The running server, and what it has seen."""

    port: int = 0
    seen: list[tuple[str, dict[str, Any], dict[str, str]]] = field(
        default_factory=list[tuple[str, dict[str, Any], dict[str, str]]]
    )
    deleted: list[str] = field(default_factory=list[str])
    tokens: set[str] = field(default_factory=set[str])  # values of Authorization that `/oauth` accepts
    challenge: str = ""  # sent to those without such a token
    documents: dict[str, Any] = field(default_factory=dict[str, Any])  # answers to GET, by path
    asked: list[str] = field(default_factory=list[str])  # paths of GET
    grants: list[dict[str, str]] = field(default_factory=list[dict[str, str]])  # requests at `/token`
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    sessions: set[str] = field(default_factory=set[str])
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def methods(self, path: str) -> list[str]:
        return [str(message.get("method")) for at, message, _ in self.seen if at == path]

    def until_seen(self, path: str, method: str) -> None:
        limit = time.monotonic() + DEADLINE
        while method not in self.methods(path):
            assert time.monotonic() < limit, (path, method, self.methods(path))
            time.sleep(0.02)


@contextmanager
def mcp_peer() -> Generator[McpPeer]:
    """Run the server."""
    peer = McpPeer()

    class Handler(_Handler):
        state = peer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    peer.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield peer
    finally:
        peer.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: McpPeer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.state.asked.append(self.path)
        document = self.state.documents.get(self.path)
        if document is None:
            self.send(404 if self.path.startswith("/.well-known/") else 405, b"")
        else:
            self.send(200, json.dumps(document).encode(), "application/json")

    def do_DELETE(self) -> None:
        self.state.deleted.append(self.path)
        self.send(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/token":
            self.issue(dict(parse_qsl(body.decode())))
            return
        message = json.loads(body)
        with self.state.lock:
            self.state.seen.append((self.path, message, dict(self.headers.items())))
        if "id" not in message:
            self.send(202, b"")
            return
        try:
            self.respond(message)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def respond(self, message: dict[str, Any]) -> None:
        method, number = message["method"], message["id"]
        path = self.path.partition("?")[0]
        is_authorized = path != "/oauth" or self.headers["Authorization"] in self.state.tokens
        if path == "/unauthorized" or not is_authorized:
            challenge = {"WWW-Authenticate": self.state.challenge} if self.state.challenge else {}
            self.send(401, b'{"error": "invalid_token"}', **challenge)
        elif path == "/moved":
            self.send(307, b"", Location="http://other.example/mcp")
        elif path == "/refused":  # a JSON-RPC error with a status of HTTP
            error = {"code": -32000, "message": "no more sessions"}
            self.send(400, json.dumps({"jsonrpc": "2.0", "id": "server-error", "error": error}).encode())
        elif path == "/tasks" and method != "tools/call" and self.is_lost():
            pass
        elif path == "/tasks" and method == "tasks/get" and not self.state.tasks:  # it has forgotten the task
            error = {"code": -32602, "message": "Unknown task"}
            answer = json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()
            self.send(200, answer, "application/json")
        elif path == "/tasks":
            self.send(200, _response(number, self.modern(method, message["params"])), "application/json")
        elif method == "server/discover":
            self.send(404, b"Not Found")
        elif method == "initialize":
            self.initialize(number)
        elif path == "/forgetful" and self.headers["Mcp-Session-Id"] not in self.state.sessions:
            self.send(404, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "?"}}')
        else:
            self.call(message["params"], number)

    def is_lost(self) -> bool:
        """Fail the request if the next state of the task is a loss: of the connection, or an HTTP status."""
        states = self.state.tasks.get("t-1") or [{}]
        if "lost" not in states[0]:
            return False
        status = states.pop(0)["lost"] if len(states) > 1 else states[0]["lost"]
        if status is None:
            self.close_connection = True
        else:
            self.send(status, b"try later")
        return True

    def modern(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return a result of the protocol of 2026-07-28: the state of a task is `states` of its arguments."""
        if method == "server/discover":
            capabilities = {"tools": {}, "extensions": {TASKS: {}}}
            return COMPLETE | {"supportedVersions": ["2026-07-28"], "capabilities": capabilities} | UNCACHED
        if method == "tools/call":
            assert TASKS in params["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"]
            if "asks" in params["arguments"]:
                return self.ask(params)
            self.state.tasks["t-1"] = list(params["arguments"]["states"])
            return TASK | {"resultType": "task", "status": "working"}
        assert self.headers["Mcp-Name"] == params["taskId"] == "t-1"
        if method != "tasks/get":
            return COMPLETE
        states = self.state.tasks["t-1"]
        return COMPLETE | TASK | (states.pop(0) if len(states) > 1 else states[0])

    def ask(self, params: dict[str, Any]) -> dict[str, Any]:
        """Ask for `asks` of the arguments before the result, which contains the responses."""
        if "inputResponses" not in params:
            asked = {"resultType": "input_required", "inputRequests": params["arguments"]["asks"]}
            return asked | {"requestState": "s-1"}
        assert params["requestState"] == "s-1"
        text = json.dumps(params["inputResponses"])
        return COMPLETE | {"content": [{"type": "text", "text": text}]}

    def issue(self, form: dict[str, str]) -> None:
        """Issue a token: to the client `apflow` with the secret `s:crèt`, or for the refresh token `r-1`."""
        self.state.grants.append(form)
        secret = base64.b64encode(b"apflow:s%3Acr%C3%A8t").decode()
        is_client = (
            self.headers["Authorization"] == f"Basic {secret}" or form.get("client_secret") == "s:crèt"
        )
        if not is_client and form.get("refresh_token") != "r-1":
            self.send(401, b'{"error": "invalid_client", "error_description": "unknown"}')
            return
        token = f"token-{len(self.state.grants)}"
        self.state.tokens.add(f"Bearer {token}")
        issued = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        self.send(200, json.dumps(issued).encode(), "application/json")

    def initialize(self, number: Any) -> None:
        capabilities: dict[str, Any] = {"tools": {}}
        result = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": INFO}
        session = f"session-{len(self.state.seen)}"
        self.state.sessions.add(session)
        more = {} if self.path == "/sessionless" else {"Mcp-Session-Id": session}
        self.send(200, _response(number, result), "application/json", **more)

    def call(self, params: dict[str, Any], number: Any) -> None:  # noqa: C901
        arguments = params.get("arguments", {})
        result = {"content": [{"type": "text", "text": json.dumps(arguments)}]}
        response = _response(number, result)
        match self.path.partition("?")[0]:
            case "/sse" | "/sessionless":
                token = params.get("_meta", {}).get("progressToken")
                progress = {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
                note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
                self.begin_events()
                self.event(json.dumps(note).encode())
                if arguments.get("hang"):
                    self.state.stop.wait(60)
                self.event(response)
                self.close_connection = True
            case "/hang":
                self.state.stop.wait(60)
            case "/die":
                self.close_connection = True
            case "/cut":
                self.begin_events()
                self.event(b'{"jsonrpc": "2.0", "method": "notifications/x"}')
                self.close_connection = True
            case "/garbage":
                self.send(200, b"<html>Welcome</html>", "application/json")
            case "/html":
                self.send(200, b"<html>Welcome</html>", "text/html")
            case "/broken":
                self.send(500, b"Traceback ...")
            case "/gzip":
                packed = gzip.compress(response)
                self.send(200, packed, "application/json", **{"Content-Encoding": "gzip"})
            case "/huge":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                while not self.state.stop.is_set():
                    self.wfile.write(b" " * 1_000_000)
            case "/flood":
                self.begin_events()
                while not self.state.stop.is_set():
                    note = {"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "x" * 100_000}}
                    self.event(json.dumps(note).encode())
            case _:
                self.send(200, response, "application/json")

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, data: bytes) -> None:
        self.wfile.write(b"event: message\ndata: " + data + b"\n\n")
        self.wfile.flush()

    def send(self, status: int, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _response(number: Any, result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()
