"""An issuer of tokens with a JWKS address on loopback: it counts who asks, changes keys, and goes away."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa


class Issuer:
    """Signs tokens, and shows its keys at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0
        self.is_down = False
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.kid = ""
        self._made = 0
        self.rotate()

    @property
    def key(self) -> rsa.RSAPrivateKey:
        """The key that it signs with now."""
        return self.keys[self.kid]

    def rotate(self) -> None:
        """Sign with a new key from now on; the earlier ones stay good."""
        self._made += 1
        kid = f"key-{self._made}"
        self.keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = kid

    def token(self, claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
        """Return a token with these claims."""
        return jwt.encode(claims, self.key, "RS256", headers={"kid": self.kid} | (headers or {}))

    def document(self) -> bytes:
        """Return its keys as a JWKS document, among some that are not for signatures of ours."""
        keys = [
            json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
            | {"kid": kid, "alg": "RS256", "use": "sig"}
            for kid, key in list(self.keys.items())
        ]
        others = [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
            {"kty": "RSA", "kid": "broken"},
            {"use": "enc"},
        ]
        return json.dumps({"keys": others + keys}).encode()


@contextmanager
def issuing() -> Generator[Issuer]:
    """Run an issuer."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.send_response(503 if issuer.is_down else 200)
            self.end_headers()
            if not issuer.is_down:
                self.wfile.write(issuer.document())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}/keys")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
