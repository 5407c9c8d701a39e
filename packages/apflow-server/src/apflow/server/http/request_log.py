"""One request: its id, and its line in the log.

The id is the caller's (`X-Request-ID`), where that is harmless, else a new one. It comes back with the
answer.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextvars import ContextVar
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("apflow.access")

HEADER: Final = "X-Request-ID"
_HARMLESS = re.compile(r"[A-Za-z0-9._:-]{1,128}")

request_id: ContextVar[str] = ContextVar("request_id", default="")


class RequestLog:
    """Gives every request an id, and logs it when it has been answered: never its query, nor its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        own = read_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = own
        status = [0]

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                MutableHeaders(scope=message)[HEADER] = own
                status[0] = message.get("status", 101)
            await send(message)

        started, token = time.perf_counter(), request_id.set(own)
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)
            log_request(scope, own, status[0], time.perf_counter() - started)


def read_id(headers: Headers) -> str:
    """Return the id that a request brings, if it is harmless, else a new one."""
    given = headers.getlist(HEADER)
    return given[0] if len(given) == 1 and _HARMLESS.fullmatch(given[0]) else secrets.token_hex(16)


def log_request(scope: Scope, own: str, status: int, seconds: float) -> None:
    """Log one request that has been answered."""
    caller = scope.get("state", {}).get("caller")
    facts = {
        "request_id": own,
        "http_method": scope.get("method", "WEBSOCKET"),
        "http_path": scope["path"][:200],
        "http_status": status,
        "seconds": round(seconds, 6),
        "client": (scope.get("client") or ("",))[0],
        "user": caller.user_id if caller is not None else None,
    }
    logger.info(
        "%(http_method)s %(http_path)r %(http_status)d in %(seconds).3f s (%(client)s, user=%(user)r, "
        "%(request_id)s)",
        facts,
        extra=facts,
    )
