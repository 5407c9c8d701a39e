"""Access tokens for servers that require OAuth 2: by client credentials, or by a refresh token.

The grants need no browser (RFC 6749, sections 4.4 and 6). The token is requested for the server alone
(RFC 8707), over the same transport as all requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import quote

import httpx

from apflow.executor.mcp.discovery import Endpoint, discover
from apflow.executor.mcp.errors import McpAuthError
from apflow.executor.mcp.request import Credentials

MARGIN_SECONDS: Final = 30.0  # before its expiry that a token is replaced
MAX_BYTES: Final = 1 << 20  # of a response with a token


@dataclass(slots=True, eq=False)
class AccessToken:
    """The token of one connection, which is requested when it is needed.

    Args:
        resource: the address of the server that the token is for.
    """

    credentials: Credentials
    resource: str
    transport: httpx.AsyncBaseTransport
    _endpoint: Endpoint | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _value: str | None = None
    _expires: float = 0.0  # on the monotonic clock
    _refresh: str | None = None  # the newest refresh token: a server may replace it

    def __post_init__(self) -> None:
        given = self.credentials
        if given.token_url is not None:
            self._endpoint = Endpoint(given.token_url, self.resource, None, is_secret_in_body=False)

    @property
    def has_endpoint(self) -> bool:
        """Whether it is known where tokens are issued."""
        return self._endpoint is not None

    async def get(self, refused: str | None = None, challenge: str = "") -> str:
        """Return a token that has not expired.

        Args:
            refused: a token that the server does not accept.
            challenge: what the server said when it refused the request (`WWW-Authenticate`).

        Raises:
            McpAuthError: no token was issued.
            McpDiscoveryError: it cannot be discovered where they are issued.
        """
        async with self._lock:
            if self._endpoint is None:
                send, issuer = self.transport.handle_async_request, self.credentials.issuer
                self._endpoint = await discover(self.resource, challenge, issuer, send)
            if self._value is None or self._value == refused or time.monotonic() > self._expires:
                await self._request()
            return cast("str", self._value)

    async def _request(self) -> None:
        endpoint = cast("Endpoint", self._endpoint)
        response = await self.transport.handle_async_request(self._make_request(endpoint))
        try:
            body = b""
            async for chunk in cast("httpx.AsyncByteStream", response.stream):
                body += chunk
                if len(body) > MAX_BYTES:
                    break
        finally:
            await response.aclose()
        self._read(endpoint, response.status_code, body)

    def _make_request(self, endpoint: Endpoint) -> httpx.Request:
        given = self.credentials
        refresh = self._refresh or given.refresh_token
        form = {"grant_type": "client_credentials" if refresh is None else "refresh_token"}
        if refresh is not None:
            form["refresh_token"] = refresh
        scope = given.scope if given.scope is not None else endpoint.scope
        if scope is not None:
            form["scope"] = scope
        form["resource"] = endpoint.resource
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if given.client_secret is None:
            form["client_id"] = given.client_id
        elif endpoint.is_secret_in_body:
            form |= {"client_id": given.client_id, "client_secret": given.client_secret}
        else:  # RFC 6749, section 2.3.1: both are encoded as in a form before they are joined
            pair = f"{quote(given.client_id, safe='')}:{quote(given.client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return httpx.Request("POST", endpoint.token_url, data=form, headers=headers)

    def _read(self, endpoint: Endpoint, status: int, body: bytes) -> None:
        try:
            found: Any = json.loads(body)
        except ValueError:
            found = None
        answer = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        token, kind = answer.get("access_token"), str(answer.get("token_type", "bearer")).lower()
        if status != 200 or not isinstance(token, str) or kind != "bearer":
            reasons = (answer.get(name) for name in ("error", "error_description"))
            reason = ", ".join(each for each in reasons if isinstance(each, str))
            raise McpAuthError(endpoint.token_url, status, reason)
        self._value = token
        lifetime = answer.get("expires_in")
        seconds = lifetime - MARGIN_SECONDS if isinstance(lifetime, int | float) else float("inf")
        self._expires = time.monotonic() + seconds
        if isinstance(answer.get("refresh_token"), str):
            self._refresh = answer["refresh_token"]
