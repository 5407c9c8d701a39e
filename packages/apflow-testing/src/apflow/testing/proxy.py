"""A TCP proxy that stands between a client and a server, and does to what they say what networks do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

Look = Callable[[bytes], bool]
Target = str | tuple[str, int]  # the path of a Unix socket, or host and port


class Proxy:
    """Forwards connections to a port of the loopback interface, in a separate thread.

    `cut_before` and `cut_after` are asked, in that thread, of each piece that a client sends: where they say
    True, both sides lose the connection, before the server gets the piece or once it has answered it. The
    client hears nothing of that answer.

    Every method returns when it is done, and may be called from any thread.
    """

    def __init__(self, target: Target) -> None:
        self.port = 0
        self.count = 0  # connections that were made
        self.lost_pieces = 0  # that `cut_before` has kept from the server
        self.lost_answers = 0  # that `cut_after` has kept from the client
        self.cut_before: Look = _never
        self.cut_after: Look = _never
        self._target = target
        self._delay = 0.0
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()  # else every piece waits
        self._tells_server = asyncio.Event()  # else the server is not notified of closed clients
        self._loop = asyncio.new_event_loop()
        self._is_ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._is_ready.result()

    def stop(self) -> None:
        """Cut every connection and stop listening. Can be called repeatedly."""
        if self._thread.is_alive():
            self._do(self._end)
            self._thread.join()

    def lose_all(self) -> None:
        """Cut every connection."""
        self._do(self._cut)

    def strand(self) -> None:
        """Cut every connection, and keep the server from hearing of it, as where a client's host is gone."""
        self._do(self._strand)

    def stall(self) -> None:
        """Let nothing through any more, without a word."""
        self._do(self._flows.clear)

    def delay(self, seconds: float) -> None:
        """Forward each piece so much later."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def pass_on(self) -> None:
        """Forward everything at once again: the end of `strand`, `stall` and `delay`."""
        self._do(self._pass_on)

    def _do(self, act: Callable[[], object]) -> None:
        """Act in the proxy's thread."""
        if threading.current_thread() is self._thread:
            act()
            return
        done: Future[None] = Future()

        def tell() -> None:
            act()
            done.set_result(None)

        self._loop.call_soon_threadsafe(tell)
        done.result()

    def _cut(self) -> None:
        for link in self._links:
            link.cut()

    def _strand(self) -> None:
        self._tells_server.clear()
        for link in self._links:
            link.near.transport.abort()

    def _pass_on(self) -> None:
        self._delay = 0.0
        self._flows.set()
        self._tells_server.set()

    def _end(self) -> None:
        for listener in self._server.sockets:
            self._loop.remove_reader(listener)  # no more connections are accepted; see `_close`
        self._pass_on()
        self._cut()
        self._loop.stop()

    def _serve(self) -> None:
        self._pass_on()
        self._loop.run_until_complete(self._listen())
        self._is_ready.set_result(None)
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    async def _close(self) -> None:
        # asyncio loses a connection that it accepts in the turn in which its server is closed, so the server
        # is closed turns later. A task that never began would leave its connection as well.
        await _turns()
        self._server.close()
        self._cut()
        await _turns()  # tasks whose connections were cut end, and transports close their sockets
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await _turns()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            with suppress(OSError):
                far_reader, link.far = await self._connect()
                await asyncio.gather(self._ask(reader, link, link.far), self._answer(far_reader, link))
        finally:
            self._links.discard(link)
            link.cut()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _let_through(self) -> None:
        await self._flows.wait()
        if self._delay:
            await asyncio.sleep(self._delay)

    async def _ask(self, reader: asyncio.StreamReader, link: _Link, far: asyncio.StreamWriter) -> None:
        """Forward what the client says."""
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                await self._let_through()
                if self.cut_before(piece):
                    self.lost_pieces += 1
                    break
                loses = self.cut_after(piece)
                if loses:
                    link.near.transport.abort()  # the answer goes nowhere
                    link.is_answered.clear()
                far.write(piece)
                await far.drain()
                if loses:
                    await link.is_answered.wait()
                    self.lost_answers += 1
                    break
        link.near.close()
        await self._tells_server.wait()
        far.close()

    async def _answer(self, far: asyncio.StreamReader, link: _Link) -> None:
        """Forward what the server says."""
        with suppress(OSError):
            while piece := await far.read(1 << 16):
                await self._let_through()
                link.is_answered.set()
                if not link.near.is_closing():
                    link.near.write(piece)
                    await link.near.drain()
        link.is_answered.set()
        link.near.close()


class _Link:
    """One connection: the client's side of it, and the server's."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.is_answered = asyncio.Event()

    def cut(self) -> None:
        """Lose it on both sides."""
        for each in (self.near, self.far):
            if each is not None:
                each.transport.abort()


@contextmanager
def a_proxy(target: Target) -> Generator[Proxy]:
    """Start a proxy and stop it at the end."""
    proxy = Proxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def at_most(count: int, look: Look) -> Look:
    """Return a look that says True where another one does, so many times at most."""
    left = count

    def looks(piece: bytes) -> bool:
        nonlocal left
        if left and look(piece):
            left -= 1
            return True
        return False

    return looks


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _never(_piece: bytes) -> bool:
    return False
