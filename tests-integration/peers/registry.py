"""A registry of images on the loopback interface that holds one small image under every name."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from peers.engine import busybox_image

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    """A registry, and what was asked of it. `127.0.0.0/8` may be asked without TLS by any engine."""

    port: int = 0
    credentials: str | None = None  # USER:PASSWORD
    asked: list[str] = field(default_factory=list[str])
    is_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @cached_property
    def blobs(self) -> dict[str, bytes]:
        """What it holds, by digest; the manifest last."""
        files = busybox_image()
        layer = gzip.compress(files, 1, mtime=0)
        root = {"type": "layers", "diff_ids": [_digest(files)]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
        kind = "application/vnd.docker"
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _described(f"{kind}.container.image.v1+json", config),
            "layers": [_described(f"{kind}.image.rootfs.diff.tar.gzip", layer)],
        }
        return {_digest(each): each for each in (layer, config, json.dumps(manifest).encode())}

    def find(self, path: str) -> bytes | None:
        """Return what is at a path; None if nothing is."""
        kind, _, name = path.rpartition("/")
        if kind.endswith("/manifests") and not name.startswith("sha256:"):
            return None if name == "missing" else list(self.blobs.values())[-1]
        return self.blobs.get(name)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _described(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


@contextmanager
def a_registry(*, credentials: str | None = None, hangs: bool = False) -> Generator[Registry]:
    """Start a registry.

    Args:
        credentials: USER:PASSWORD, without which it gives nothing.
        hangs: it takes requests, and does not answer.
    """
    registry = Registry(credentials=credentials)
    if not hangs:
        registry.may_answer.set()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(self.path)
            registry.is_asked.set()
            registry.may_answer.wait(60)
            expected = f"Basic {base64.b64encode((registry.credentials or '').encode()).decode()}"
            if registry.credentials and self.headers["Authorization"] != expected:
                self.answer(401, b"{}")
            elif self.path == "/v2/":
                self.answer(200, b"{}")
            else:
                found = registry.find(self.path)
                self.answer(200 if found else 404, found or b"{}")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="images"')
            self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/json")
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        registry.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield registry
        finally:
            registry.may_answer.set()
            server.shutdown()
            thread.join()
