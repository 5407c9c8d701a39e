"""A web server that answers at once: it prints its URL, and ends with its input or a signal."""

from __future__ import annotations

import asyncio

ANSWER = b'{"done": true}'
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)


class Answering(asyncio.Protocol):
    """Answers each request, of which only the end is looked for."""

    def __init__(self) -> None:
        self._waiting = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole by now."""
        assert self._transport is not None
        *whole, self._waiting = (self._waiting + data).split(b"\r\n\r\n")
        self._transport.write(RESPONSE * len(whole))


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
