"""A TCP proxy before the server, that does to connections what networks do.

It runs in a thread of its own. `Lost answers`: of each connection whose client sends COMMIT, the server's
answer is swallowed and the connection cut, so that the client cannot know what became of it.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

COMMIT = b"COMMIT\x00"  # at the end of a client's query, and in the server's answer


class Proxy:
    """Passes bytes on, or does not."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.lost_answers = 0  # so many answers were swallowed
        self.lost_commits = 0
        self._delay = 0.0
        self._to_lose = 0  # answers
        self._to_swallow = 0  # COMMITs
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()  # those of them that lead to clients
        self._passes = asyncio.Event()  # else all bytes wait: a black hole
        self._released = asyncio.Event()  # else the server does not hear of clients that are gone
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """Reset all connections."""
        self._soon(self._cut)

    def strand(self) -> None:
        """Reset the connections to clients; the server hears of it at `release`, as where a host is gone."""
        self._soon(self._strand)

    def release(self) -> None:
        """Let the server know which clients are gone."""
        self._soon(self._released.set)

    def delay(self, seconds: float) -> None:
        """Pass each piece on so much later, from now on."""
        self._soon(lambda: setattr(self, "_delay", seconds))

    def swallow(self) -> None:
        """Become a black hole: nothing comes through, nothing is refused."""
        self._soon(self._passes.clear)

    def pass_on(self) -> None:
        """Be a wire again."""
        self._soon(lambda: (setattr(self, "_delay", 0.0), self._passes.set()))

    def lose_commit_answers(self, count: int) -> None:
        """Swallow the answers to the next so many COMMITs, and cut these connections."""
        self._soon(lambda: setattr(self, "_to_lose", count))

    def lose_commits(self, count: int) -> None:
        """Swallow the next so many COMMITs themselves, and cut these connections."""
        self._soon(lambda: setattr(self, "_to_swallow", count))

    def _soon(self, act: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(act)

    def _cut(self) -> None:
        for each in list(self._writers):
            each.transport.abort()

    def _strand(self) -> None:
        self._released.clear()
        for each in list(self._clients):
            each.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open())
        self._loop.run_forever()
        self._server.close()
        self._cut()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _open(self) -> None:
        self._passes.set()
        self._released.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passes.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, back)
        self._writers |= {writer, back}
        self._clients.add(writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.carry(reader, back, is_client=True), name="proxy:there")
                group.create_task(link.carry(there, writer, is_client=False), name="proxy:back")
        except* OSError:
            pass
        finally:
            self._writers -= {writer, back}
            self._clients.discard(writer)
            for each in (writer, back):
                each.transport.abort()

    def takes_answer(self) -> bool:
        """Say whether the answer to a COMMIT that is being sent is to be lost."""
        if self._to_lose <= 0:
            return False
        self._to_lose -= 1
        return True

    def takes_commit(self) -> bool:
        """Say whether a COMMIT that is being sent is to be lost."""
        if self._to_swallow <= 0:
            return False
        self._to_swallow -= 1
        self.lost_commits += 1
        return True

    async def released(self) -> None:
        await self._released.wait()

    async def let_through(self) -> None:
        await self._passes.wait()
        if self._delay:
            await asyncio.sleep(self._delay)


class Link:
    """One connection through a proxy."""

    def __init__(self, proxy: Proxy, *ends: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = ends
        self._is_losing = False  # the client has sent COMMIT, and is not to hear of it

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_client: bool
    ) -> None:
        """Pass on what one side sends, until it ends; then end the other side."""
        while piece := await _read(reader):
            await self._proxy.let_through()
            if is_client and COMMIT in piece.upper():
                if self._proxy.takes_commit():
                    break
                self._is_losing = self._is_losing or self._proxy.takes_answer()
            if not is_client and self._is_losing:
                if COMMIT in piece:
                    self._proxy.lost_answers += 1
                    break
                continue
            writer.write(piece)
            await writer.drain()
        if is_client:
            await self._proxy.released()
        for each in self._ends:
            each.transport.abort()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 16)
    except OSError:  # it was reset
        return b""


@contextmanager
def a_proxy(target: int) -> Iterator[Proxy]:
    """Start a proxy before a port, and stop it at the end."""
    proxy = Proxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
