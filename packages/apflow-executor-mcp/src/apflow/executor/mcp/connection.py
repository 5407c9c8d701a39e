"""A connection to a server: one asyncio task opens it, holds it, and closes it.

The library requires that a session is entered and left in the same task. Tasks of a tree that use the same
connection send their requests from their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from apflow.core.errors import ApflowError
from apflow.executor.mcp.errors import McpConnectError, McpLostError, McpProtocolError
from apflow.executor.mcp.http import open_http
from apflow.executor.mcp.link import Link
from apflow.executor.mcp.request import HttpTarget, StdioTarget, Target
from apflow.executor.mcp.sampling import Sampler
from apflow.executor.mcp.sdk import RpcError, Session, is_library_quiet, open_session, rpc_error
from apflow.executor.mcp.stdio import stdio_streams

CLOSE_SECONDS: Final = 10.0  # until the task that closes a connection is cancelled

T = TypeVar("T")


class Connection:
    """A connection that is being opened, is open, or has ended."""

    def __init__(self, target: Target, sampler: Sampler | None = None) -> None:
        self.link = Link(target.shown)
        self.is_for_one = sampler is not None  # it is closed after its first use
        self._sampler = sampler
        self.users = 0
        self.is_retired = False  # no further task may use it
        self._target = target
        self._ready: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(_retrieve)
        self._task = asyncio.create_task(self._run(), name="apflow:mcp:connection")

    @property
    def is_usable(self) -> bool:
        """Whether another task may use it."""
        return not (self.is_retired or self.link.closing.is_set() or self._task.done())

    @property
    def is_open(self) -> bool:
        """Whether the session has been established."""
        return self._ready.done()

    async def call(self, send: Callable[[Session], Awaitable[T]]) -> T:
        """Return what `send` returns, which is given the session once it is established.

        `send` raises an `RpcError` only when it is not a response, but says that the connection has ended.

        Raises:
            ApflowError: the connection failed or ended, or what `send` raises.
        """
        session = await self._session()
        call = asyncio.ensure_future(send(session))
        try:
            await asyncio.wait({call, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise self._ended()
            try:
                return call.result()
            except RpcError as error:
                self.link.fail(McpLostError(self.link.shown, "the server closed the connection"))
                await asyncio.wait({self._task})  # it may know why
                raise self._ended() from error
            except Exception as error:
                if self.link.failure is None:
                    raise
                raise self.link.failure from error
        finally:
            self.link.settle()
            if not call.done():
                self.is_retired = True  # the server may still work on the request, or hang
                call.cancel()
                await asyncio.wait({call})
            if not call.cancelled():
                call.exception()  # mark it as seen

    async def close(self) -> None:
        """End it, and wait until it has ended: for a program, until its processes are gone."""
        self.link.close()
        if not self._ready.done():
            self._task.cancel()
        _, waiting = await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        if waiting:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _session(self) -> Session:
        """Return the session once it is established; raise the failure if it is not."""
        if not self._ready.done():
            closing = asyncio.create_task(self.link.closing.wait(), name="apflow:mcp:closing")
            try:
                ends: set[asyncio.Future[Any]] = {self._ready, closing, self._task}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                closing.cancel()
        if self._ready.done():
            return self._ready.result()
        if self.link.failure is None:
            await asyncio.wait({self._task})
        raise self._ended()

    def _ended(self) -> ApflowError:
        return self.link.failure or McpLostError(self.link.shown, "it was closed")

    async def _run(self) -> None:
        """Open it, hold it until it must be closed, and close it."""
        link = self.link
        is_library_quiet.set(True)  # in this task, and in those that the library starts
        try:
            target = self._target
            streams = (
                stdio_streams(target, link) if isinstance(target, StdioTarget) else open_http(target, link)
            )
            is_probing = isinstance(target, HttpTarget) and not target.is_sse
            async with (
                streams as opened,
                open_session(
                    opened, link, self._on_exception, is_probing=is_probing, sampler=self._sampler
                ) as session,
            ):
                self._ready.set_result(session)
                await link.closing.wait()
        except asyncio.CancelledError:
            pass  # close() cancels what does not end, and the end of the loop what is left
        except BaseException as error:  # noqa: BLE001 - the calls raise it
            if link.failure is None:
                link.failure = _failure(link.shown, error)
        finally:
            link.closing.set()
            if not self._ready.done():
                self._ready.set_exception(self._ended())

    def _on_exception(self, error: Exception) -> None:
        """End the connection because of a message that cannot be read.

        Line 1 of the library also passes on that it does not expect a response, such as one that comes
        after its request was cancelled.
        """
        if not isinstance(error, ValueError):  # pydantic's ValidationError is one
            return
        fault = (str(error) or type(error).__name__).splitlines()[0]
        self.link.fail(McpProtocolError(self.link.shown, f"a message cannot be read ({fault})"))


def _failure(where: str, error: BaseException) -> ApflowError:
    """Return why a connection was not established: the first cause in groups of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, ApflowError):
        return error
    if isinstance(error, RpcError):
        code, message = rpc_error(error)
        return McpConnectError(where, f"it refuses the handshake with error {code}: {message.rstrip('.')}")
    text = (str(error) or type(error).__name__).splitlines()[0]
    return McpConnectError(where, text.rstrip("."))


def _retrieve(future: asyncio.Future[Session]) -> None:
    """Mark the exception of a connection as seen, if every task that waited for it has gone."""
    if not future.cancelled():
        future.exception()
