"""A transport of httpx as one of httpx2, which line 2 of the `mcp` library uses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import httpx2


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except httpx.HTTPError as error:
            raise httpx2.ReadError(str(error)) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        extensions: Any = {name: value for name, value in request.extensions.items() if name == "timeout"}
        sent = httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=await request.aread(),
            extensions=extensions,
        )
        try:
            response = await self._transport.handle_async_request(sent)
        except httpx.HTTPError as error:
            raise httpx2.ConnectError(str(error)) from error
        stream: Any = response.stream
        return httpx2.Response(response.status_code, headers=response.headers.raw, stream=_Stream(stream))


def make_httpx2_client(transport: httpx.AsyncBaseTransport, headers: Mapping[str, str]) -> httpx2.AsyncClient:
    """Return a client of httpx2 whose requests go through a transport of httpx."""
    return httpx2.AsyncClient(transport=_Transport(transport), headers=headers, timeout=None, trust_env=False)
