"""A peer with configurable responses: the behaviour of a faulty server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class StrangePeer:
    """Answers each request with the next of `answers`, and the last of them repeatedly."""

    def __init__(self, url: str, answers: list[Answer]) -> None:
        self.url, self.answers = url, answers
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.over = threading.Event()


def answer(body: Any, status: int = 200, content_type: str = "application/json", **headers: str) -> Answer:
    """Return what answers with a body."""

    def write(request: BaseHTTPRequestHandler) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(text)))
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(text)

    return write


def result(value: Any) -> Answer:
    """Return what answers with the result of a call."""
    return answer({"jsonrpc": "2.0", "id": 1, "result": value})


def stream(*frames: dict[str, Any], then: str = "end") -> Answer:
    """Return what answers with events; `then` it ends, is `silent`, or `dies` in the middle of one."""

    def write(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        if then == "dies":
            request.send_header("Content-Length", "1000000")
        request.end_headers()
        request.close_connection = True
        for frame in frames:
            request.wfile.write(f"id: {frame['sequence']}\ndata: {json.dumps(frame)}\n\n".encode())
            request.wfile.flush()
        if then == "silent":
            request.server.over.wait(20)  # type: ignore[attr-defined]

    return write


def die(request: BaseHTTPRequestHandler) -> None:
    """Answer nothing, and close the connection."""
    request.close_connection = True


def hang(request: BaseHTTPRequestHandler) -> None:
    """Answer nothing, and hold the connection."""
    request.server.over.wait(20)  # type: ignore[attr-defined]
    request.close_connection = True


@contextmanager
def strange_peer(*answers: Answer) -> Generator[StrangePeer]:
    """Run such a peer on a free port."""

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            peer.requests.append((self.path, headers, body))
            chosen = peer.answers[0] if len(peer.answers) == 1 else peer.answers.pop(0)
            chosen(self)

        do_GET = do_POST  # noqa: N815 - so called by the library

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    peer = StrangePeer(f"http://127.0.0.1:{server.server_address[1]}", list(answers))
    server.over = peer.over  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="strange peer")
    thread.start()
    try:
        yield peer
    finally:
        peer.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
