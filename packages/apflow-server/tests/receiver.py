"""A receiver of webhooks: a real HTTP server on the loopback address, with configurable responses."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import standardwebhooks


@dataclass
class Receiver:
    """The received requests, and the responses to send: in order, then the last one repeatedly."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict[str, str])  # of every answer
    hangs: float = 0.0  # seconds before each answer
    released: threading.Event = field(default_factory=threading.Event)  # ends the waiting at once
    requests: list[Request] = field(default_factory=list["Request"])
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def events(self, root_id: str) -> list[dict[str, Any]]:
        """The events of a tree that were answered with 2xx, in the order of their arrival."""
        with self.lock:
            return [
                each.event
                for each in self.requests
                if each.event["root_task_id"] == root_id and 200 <= each.answer < 300
            ]


@dataclass
class Request:
    """One request that was received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answer: int

    @property
    def event(self) -> dict[str, Any]:
        """The event in the body."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    def verify(self, secret: str) -> None:
        """Check the signature, as a receiver would."""
        standardwebhooks.Webhook(secret).verify(self.body, self.headers)


@contextmanager
def receiving(**more: Any) -> Generator[Receiver]:
    """Run a receiver on a free port.

    Its paths begin with a random name. Other requests are answered with 404 and not recorded: a server
    of another test may still send to the receiver that had this port before.
    """
    receiver = Receiver(**more)
    own = f"/{secrets.token_hex(8)}"

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender died while it sent
                self.close_connection = True
                return
            if not self.path.startswith(f"{own}/"):
                self._answer(404)
                return
            with receiver.lock:
                receiver.at_once += 1
                receiver.most_at_once = max(receiver.most_at_once, receiver.at_once)
                answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            receiver.released.wait(receiver.hangs)
            with receiver.lock:
                receiver.at_once -= 1
                headers = {name.lower(): value for name, value in self.headers.items()}
                path = self.path.removeprefix(own)
                receiver.requests.append(Request(self.command, path, headers, body, answer))
            self._answer(answer)

        do_PUT = do_POST  # noqa: N815 - a name of the library

        def do_GET(self) -> None:
            is_own = self.path.startswith(f"{own}/")
            if is_own:
                path = self.path.removeprefix(own)
                with receiver.lock:
                    receiver.requests.append(Request("GET", path, {}, b'{"root_task_id": null}', 200))
            self._answer(200 if is_own else 404)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that disconnects is not an error
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}{own}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="receiver")
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
