"""A TCP proxy that stands between a client and a server, and can lose what they say to each other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Look = Callable[[bytes], bool]


class Proxy:
    """Forwards connections at a port of the loopback interface, from a thread of its own.

    `cut_before` and `cut_after` are asked of each piece that a client sends: where they say True, both sides
    lose the connection, before the server gets the piece or once it has answered it.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target  # the path of a Unix socket, or host and port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve_forever, name="proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing: asyncio.Event | None = None
        self.port = 0
        self.cut_before: Look = _never
        self.cut_after: Look = _never
        self.count = 0  # connections that were made

    def lose_all(self) -> None:
        """Cut every connection."""
        self._run(self._lose_all())

    def stall(self, *, is_stalled: bool = True) -> None:
        """Let nothing through any more, without a word; or let it through again."""
        self._run(self._stall(is_stalled))

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._run(self._serve())

    def stop(self) -> None:
        """Cut every connection and listen no more. May be repeated."""
        if self._thread.is_alive():
            self._run(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result()

    def _serve_forever(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(_end_all())
        self._loop.close()

    async def _serve(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        await self._stall(False)
        await self._lose_all()

    async def _stall(self, is_stalled: bool) -> None:
        assert self._flowing is not None  # made when this was started
        if is_stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _lose_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        writers = {writer}
        self._writers |= writers
        try:
            with suppress(OSError):
                far_reader, far = await self._connect()
                writers.add(far)
                self._writers.add(far)
                answered = asyncio.Event()
                await asyncio.gather(
                    self._ask(reader, far, writer, answered), self._answer(far_reader, writer, answered)
                )
        finally:
            self._writers -= writers
            for each in writers:
                each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
        near: asyncio.StreamWriter,
        answered: asyncio.Event,
    ) -> None:
        """Forward what the client says."""
        assert self._flowing is not None  # made when this was started
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                await self._flowing.wait()
                if self.cut_before(piece):
                    break
                loses = self.cut_after(piece)
                if loses:
                    near.transport.abort()  # the answer goes nowhere
                    answered.clear()
                far.write(piece)
                await far.drain()
                if loses:
                    await answered.wait()
                    break
        answered.set()
        near.close()
        far.close()

    async def _answer(
        self, far: asyncio.StreamReader, near: asyncio.StreamWriter, answered: asyncio.Event
    ) -> None:
        """Forward what the server says."""
        assert self._flowing is not None  # made when this was started
        with suppress(OSError):
            while piece := await far.read(1 << 16):
                await self._flowing.wait()
                answered.set()
                if not near.is_closing():
                    near.write(piece)
                    await near.drain()
        answered.set()
        near.close()


@contextmanager
def a_proxy(target: str | tuple[str, int]) -> Generator[Proxy]:
    """Start a proxy and stop it at the end."""
    proxy = Proxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def socket_of(folder: str) -> str:
    """Return the Unix socket of the PostgreSQL server that keeps it in `folder`."""
    [socket] = [each for each in Path(folder).glob(".s.PGSQL.*") if each.suffix != ".lock"]
    return str(socket)


async def _end_all() -> None:
    await _turns()  # who was accepted just now is served: a task that never began would leave its connection
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await _turns()  # transports that were closed just now let go of their sockets


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _never(_piece: bytes) -> bool:
    return False
