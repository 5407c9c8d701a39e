"""Answers other processes of the same user, for the store of a file that one process at a time can open.

The socket has a thread with an event loop, so that the process answers while its own event loop is blocked,
between two event loops (a script that calls `asyncio.run` several times), and without any (a notebook).
Operations are imported with the first request, because most processes get none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apflow.core.concurrency import exit_fence
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.process import local_socket
from apflow.core.process.identity import after_fork_in_child
from apflow.core.process.server_file import API, describe_this_server, published
from apflow.core.store.base import TaskStore

if TYPE_CHECKING:
    import socket

    from apflow.core.service.local_protocol import LocalRequest

logger = logging.getLogger(__name__)

GREETING: Final = b'{"apflow": %d}\n' % API
REQUEST_SECONDS: Final = 60.0  # for a request to arrive
LAST_ANSWERS: Final = 1.0  # seconds that answers may take when the store is being closed
END_SECONDS: Final = 5.0  # for the thread to end


class LocalServer:
    """The socket of one store, from `start` to `stop`. Both may be called repeatedly, in any thread."""

    def __init__(self, store: TaskStore, database: Path) -> None:
        self._store = weakref.ref(store)  # which the thread does not keep alive
        self._database = database
        self._lock = threading.RLock()  # guards what follows; garbage collection may call `stop`
        self._thread: threading.Thread | None = None
        self._bound: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._published = ExitStack()
        self._answering: set[asyncio.Task[None]] = set()
        self._pid = os.getpid()
        self._opened_at = 0.0  # by the monotonic clock
        _servers.add(self)

    @property
    def is_answering(self) -> bool:
        """Whether requests are being answered."""
        return bool(self._answering)

    def start(self) -> None:
        """Listen, and publish the socket. The file must be open. A failure is logged, and nothing more."""
        if not local_socket.IS_SUPPORTED:
            return
        with self._lock:
            if self._thread is not None:
                return
            self._opened_at = time.monotonic()
            try:
                self._bound, path = local_socket.listen(self._database)
                self._published.callback(path.unlink, missing_ok=True)
                info = describe_this_server(self._database, socket=str(path))
                self._published.enter_context(published(info))
                self._thread = threading.Thread(target=self._run, name="apflow:local", daemon=True)
                self._thread.start()
            except (OSError, RuntimeError) as error:  # RuntimeError: the interpreter ends
                logger.info("%s: other processes are not answered: %s", self._database, error)
                self._thread = None
                self._withdraw()

    def stop(self) -> None:
        """Withdraw the socket, give requests a moment to be answered, and end. The store is still open."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            thread, self._thread = self._thread, None
            self._withdraw()
            if thread is None:
                return
            if self._loop is not None:
                call_in_loop(self._loop, self._ending.set)
            else:
                self._ending.set()
        if thread is not threading.current_thread():
            thread.join(END_SECONDS)

    def leave_to_parent(self) -> None:
        """Close the copy of the socket in a forked process."""
        if self._bound is not None:
            self._bound.close()

    def _withdraw(self) -> None:
        with suppress(OSError):
            self._published.close()
        bound, self._bound = self._bound, None
        if bound is not None and self._thread is None and self._loop is None:
            bound.close()

    def _run(self) -> None:
        try:
            exit_fence.run(self._serve())
        except BaseException:  # the end of the thread
            logger.exception("%s: other processes are no longer answered", self._database)
            self._withdraw()

    async def _serve(self) -> None:
        with self._lock:
            bound = self._bound
            self._loop = loop = asyncio.get_running_loop()
        if bound is None:  # stopped already
            return
        server = await asyncio.start_unix_server(self._accept, sock=bound, limit=1 << 20)
        await self._ending.wait()
        # A connection that asyncio has accepted, but not yet attached to the server when that closes, would
        # stay open without an answer (https://github.com/python/cpython/issues/109564).
        loop.remove_reader(bound)
        await asyncio.sleep(0)
        server.close()
        await _finish_tasks(LAST_ANSWERS)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: asyncio logs an error for a coroutine here that is cancelled (Python 3.11).
        task = asyncio.get_running_loop().create_task(
            self._attend(reader, writer), name="apflow:local:answer"
        )
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection and close it."""
        try:
            # The client has gone, or its request is invalid.
            with suppress(OSError, ValueError, TimeoutError):
                await self._converse(reader, writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()  # until the client has read the answer
        finally:
            writer.transport.abort()  # `close` would wait for a client that does not read

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not local_socket.is_own_peer(writer.get_extra_info("socket")):
            return
        writer.write(GREETING)
        async with asyncio.timeout(REQUEST_SECONDS):
            line = await read_line(reader)
        store = self._store()
        if line is None or store is None or store.is_closed:
            return
        from apflow.core.service.local_protocol import ACCEPTED, read_request

        request = read_request(line)
        writer.write(ACCEPTED)
        answering = asyncio.ensure_future(_answer(store, request, self._opened_at, writer))
        del store
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if request.ends_with_connection and not answering.done():
                answering.cancel()
            await asyncio.wait({answering})
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.wait({answering, leaving})
        if not answering.cancelled():
            answering.result()


async def _answer(
    store: TaskStore, request: LocalRequest, opened_at: float, writer: asyncio.StreamWriter
) -> None:
    from apflow.core.payload.json_value import dumps
    from apflow.core.service.local_protocol import respond

    async with aclosing(respond(store, request, opened_at)) as messages:
        async for message in messages:
            writer.write(dumps(message) + b"\n")
            await writer.drain()


async def _finish_tasks(seconds: float) -> None:
    """Wait for the other tasks of the event loop, and cancel those that take longer.

    These are more than the answers: asyncio has a task for each connection that it has just accepted, and
    only that one begins the answer.
    """
    this = {asyncio.current_task()}
    deadline = time.monotonic() + seconds
    while (others := asyncio.all_tasks() - this) and time.monotonic() < deadline:
        await asyncio.wait(others, timeout=max(0.0, deadline - time.monotonic()))
    for each in others:
        each.cancel()
    if others:
        await asyncio.wait(others)


async def read_line(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line, of any length; None at the end of the connection, also within a line."""
    pieces: list[bytes] = []
    while True:
        try:
            pieces.append(await reader.readuntil())
        except asyncio.LimitOverrunError as error:
            pieces.append(await reader.readexactly(error.consumed))
        except asyncio.IncompleteReadError:
            return None
        else:
            return b"".join(pieces)


_servers: weakref.WeakSet[LocalServer] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for each in list(_servers):
        each.leave_to_parent()


after_fork_in_child(_leave_to_parent)
