"""Connections to models, made only to addresses that the network policy permits."""

from __future__ import annotations

from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.http import GuardedTransport

# The engine bounds how many tasks run.
CONNECTIONS = 1 << 16

_transports = LoopLocal(lambda: GuardedTransport(connections=CONNECTIONS), GuardedTransport.aclose)


class LoopTransport(httpx.AsyncBaseTransport):
    """Sends each request over the guarded transport of the running event loop."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See `GuardedTransport.handle_async_request`."""
        return await (await _transports.get()).handle_async_request(request)

    async def aclose(self) -> None:
        """Do nothing: the transports close with their event loops."""


@cache
def shared_client() -> httpx.AsyncClient:
    """Return the client for providers with OpenAI's protocol: without cookies and redirects."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(transport=LoopTransport(), trust_env=False, cookies=no_cookies)


@cache
def http_handler() -> Any:
    """Return LiteLLM's handler for the other providers, over the same transport."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    return AsyncHTTPHandler(transport=LoopTransport(), follow_redirects=False)


async def close_connections() -> None:
    """Close the connections that the running event loop keeps open."""
    await _transports.close()
