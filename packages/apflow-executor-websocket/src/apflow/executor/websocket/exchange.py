"""One exchange of messages: connect, send, receive, close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CLOSE_CODE_EXPLANATIONS, CloseCode

from apflow.executor.websocket.connection import close_connection, drop_messages, open_connection
from apflow.executor.websocket.errors import (
    WebSocketClosedError,
    WebSocketError,
    WebSocketTimeoutError,
    WebSocketTooLargeError,
)
from apflow.executor.websocket.replies import Replies
from apflow.executor.websocket.request import Message, WebSocketRequest


async def exchange(request: WebSocketRequest, replies: Replies, timeout: float) -> None:
    """Send the messages and wait for the replies, which are in `replies` afterwards.

    However this ends, the connection is closed. Raises what `open_connection` raises, and:

    Raises:
        WebSocketTimeoutError: it took too long.
        WebSocketClosedError: the connection ended before everything was said.
        WebSocketTooLargeError, WebSocketUnmatchedError: see `Replies`.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    said = "it was still connecting"
    try:
        async with asyncio.timeout_at(deadline):
            connection = await open_connection(request)
        try:
            async with asyncio.timeout_at(deadline):
                await _talk(connection, request, replies)
        finally:
            said = replies.said
            await close_connection(connection)
    except TimeoutError as error:
        raise WebSocketTimeoutError(request.address.shown, timeout, said) from error


async def _talk(connection: ClientConnection, request: WebSocketRequest, replies: Replies) -> None:
    try:
        await _send_and_receive(connection, request.messages, replies)
    except ExceptionGroup as failures:
        error = failures.exceptions[0]
        if isinstance(error, ConnectionClosed):
            raise _ending_of(error, request, replies) from error
        raise error from None


async def _send_and_receive(
    connection: ClientConnection, messages: Sequence[Message], replies: Replies
) -> None:
    """Send and receive at once: a peer may answer each message before it reads the next."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(connection, messages), name="apflow:websocket:send")
        while not replies.is_complete:
            replies.add(await connection.recv())
        if sending.done() and replies.received:
            return
        dropping = group.create_task(drop_messages(connection), name="apflow:websocket:drop")
        await sending
        if not replies.received:
            # No reply is expected: the pong shows that the peer has read everything.
            await (await connection.ping())
        dropping.cancel()


async def _send(connection: ClientConnection, messages: Sequence[Message]) -> None:
    for message in messages:
        await connection.send(message)


def _ending_of(error: ConnectionClosed, request: WebSocketRequest, replies: Replies) -> WebSocketError:
    """Return our error for the end of a connection."""
    where, said = request.address.shown, replies.said
    received, sent = error.rcvd, error.sent
    if received is not None and error.rcvd_then_sent is not False:
        how = f"the peer closed it with {_named(received.code)}"
        how += f", {received.reason!r}" if received.reason else ""
        return WebSocketClosedError(where, how, said, code=received.code, reason=received.reason)
    if sent is None:
        how = "it was lost without a close frame (1006)"
        return WebSocketClosedError(where, how, said, code=CloseCode.ABNORMAL_CLOSURE, reason="")
    if sent.code == CloseCode.MESSAGE_TOO_BIG and "fragments" not in sent.reason:
        return WebSocketTooLargeError(where, request.max_size, said)
    how = (
        f"the peer did not answer a ping within {request.ping_interval:g} s"
        if sent.reason.startswith("keepalive") and request.ping_interval is not None
        else f"the peer broke the protocol, {_named(sent.code)}, {sent.reason!r}"
    )
    return WebSocketClosedError(where, how, said, code=sent.code, reason=sent.reason)


def _named(code: int) -> str:
    return f"{int(code)} ({CLOSE_CODE_EXPLANATIONS.get(code, 'a custom code')})"
