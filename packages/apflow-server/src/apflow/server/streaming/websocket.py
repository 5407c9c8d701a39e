"""The same events over a WebSocket: several trees at once, each from a snapshot or from a known event.

The token comes with the handshake (a header, or for browsers the subprotocols `apflow` and `bearer.TOKEN`),
or in the first message. Pings are the server's own. What waits for a slow reader is bounded for each tree.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Final

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from apflow.core.errors import ConflictError
from apflow.core.events.subscription import Subscription
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.core.service.task_service import TaskService
from apflow.server.auth.authentication import bearer, caller_of, service_for
from apflow.server.auth.caller import Caller, expired
from apflow.server.drain import Drain
from apflow.server.http.api_error import ApiError, Code, TooManyRequestsError, UnauthorizedError, api_error_of
from apflow.server.http.protection import check_origin
from apflow.server.streaming.event_stream import Streams, is_deleted
from apflow.server.streaming.websocket_messages import (
    Authenticate,
    Message,
    Unwatch,
    Watch,
    error_message,
    read_message,
)

logger = logging.getLogger(__name__)

SUBPROTOCOL: Final = "apflow"
TOKEN_PREFIX: Final = "bearer."  # noqa: S105 - of a subprotocol that is a token
TOKEN_TIME: Final = 10.0  # seconds for the client to authenticate
SEND_TIMEOUT: Final = 60.0  # seconds that a reader may take nothing
POLL_INTERVAL_SECONDS: Final = 15.0  # seconds between looks whether a tree was deleted
WATCHES: Final = 100  # of one connection
FAULTS: Final = 20  # wrong messages until a connection is closed
# Codes of closing (RFC 6455, section 7.4, and IANA); of those that are left to us, one after the 401 of HTTP.
RESTART, POLICY, SLOW, UNAUTHORIZED = 1012, 1008, 1013, 4401

router = APIRouter(tags=["streams"])


@router.websocket("/ws")
async def follow(socket: WebSocket) -> None:
    """Tell a client the events of the trees that it asks for."""
    check_origin(socket.headers, socket.app.state.settings)
    token, has_offered = _offered(socket)
    is_known = token is not None or socket.app.state.token_check is None
    service = await _service(socket, token) if is_known else None
    await socket.accept(subprotocol=SUBPROTOCOL if has_offered else None)
    try:
        if service is None:
            service = await _authenticated(socket)
        await Conversation(socket, service).run()
    except ApiError as error:
        is_unknown = isinstance(error, UnauthorizedError)
        await _close(socket, UNAUTHORIZED if is_unknown else POLICY, error.message)
    except TimeoutError:
        await _close(socket, SLOW, "nothing was read, or said, in time")
    except WebSocketDisconnect:
        pass


class Conversation:
    """The messages of one authenticated connection."""

    def __init__(self, socket: WebSocket, service: TaskService) -> None:
        self._socket = socket
        self._service = service
        self._streams: Streams = socket.app.state.streams
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._faults = 0

    async def run(self) -> None:
        """Answer until the client disconnects, its token expires, or the server ends."""
        drain: Drain = self._socket.app.state.drain
        caller: Caller = self._socket.state.caller
        is_expired = False
        self._streams.check(caller)
        with self._streams.opened("websocket", caller):
            try:
                async with asyncio.TaskGroup() as group:
                    over = group.create_task(drain.over(), name="apflow:socket:over")
                    expiring = group.create_task(expired(caller), name="apflow:socket:expired")
                    hearing = group.create_task(self._receive_messages(group), name="apflow:socket:hear")
                    await asyncio.wait({over, expiring, hearing}, return_when=asyncio.FIRST_COMPLETED)
                    is_expired = expiring.done()
                    for each in (over, expiring, hearing, *self._watches.values()):
                        each.cancel()
            except* (WebSocketDisconnect, RuntimeError, TimeoutError) as errors:
                # RuntimeError: it was closed while something was being sent
                raise errors.exceptions[0] if _has_timeout(errors) else WebSocketDisconnect(1006) from None
        if drain.is_over:
            await _close(self._socket, RESTART, "the server ends: come back")
        elif is_expired:
            await _close(self._socket, UNAUTHORIZED, "the token has expired: come back with another")

    async def _receive_messages(self, group: asyncio.TaskGroup) -> None:
        while True:
            task_id: str | None = None
            try:
                message = read_message(await _receive(self._socket))
                task_id = getattr(message, "task_id", None)
                self._socket.app.state.rate.check_user(self._service.user_id)
                await self._take(message, group)
            except WebSocketDisconnect:
                return
            except Exception as error:  # noqa: BLE001 - sent to the client, and logged where it was not foreseen
                self._faults += 1
                await self._say(error_message(api_error_of(error), task_id))
                if self._faults >= FAULTS:
                    await _close(self._socket, POLICY, "too many messages that cannot be used")
                    return

    async def _take(self, message: Message, group: asyncio.TaskGroup) -> None:
        match message:
            case Watch(task_id=task_id, after=after):
                await self._watch(task_id, after, group)
            case Unwatch(task_id=task_id):
                watch = self._watches.pop(task_id, None)
                if watch is not None:
                    watch.cancel()
                await self._say({"type": "unwatched", "task_id": task_id})
            case Authenticate():
                raise ApiError(400, Code.INVALID_REQUEST, "This connection is already authenticated.")

    async def _watch(self, task_id: str, after: int | None, group: asyncio.TaskGroup) -> None:
        if task_id in self._watches:
            raise api_error_of(ConflictError(f"Task {task_id!r} is watched already."))
        if len(self._watches) >= WATCHES:
            raise TooManyRequestsError(f"One connection watches at most {WATCHES} trees.")
        state, subscription = await self._service.follow(task_id, after)
        first: dict[str, Json] = {
            "type": "watching",
            "task_id": task_id,
            "root_task_id": subscription.root_id,
        }
        self._watches[task_id] = group.create_task(
            self._send_events(task_id, subscription, [first] if state is None else [first, state]),
            name=f"apflow:socket:{task_id}",
        )

    async def _send_events(
        self, task_id: str, subscription: Subscription, before: list[dict[str, Json]]
    ) -> None:
        """Send the events of one tree, to its end."""
        looking = asyncio.create_task(self._until_deleted(subscription.root_id), name="apflow:socket:look")
        sending = asyncio.create_task(self._send_all(subscription, before), name="apflow:socket:send")
        try:
            await asyncio.wait({looking, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (looking, sending):
                each.cancel()
            await asyncio.wait({looking, sending})
        if self._watches.get(task_id) is asyncio.current_task():
            del self._watches[task_id]
        if sending.cancelled():
            await self._say({"type": "ended", "task_id": task_id, "reason": "the tree was deleted"})
        elif (error := sending.exception()) is None:
            await self._say({"type": "ended", "task_id": task_id, "reason": None})
        elif isinstance(error, WebSocketDisconnect | RuntimeError | TimeoutError):
            raise error
        elif isinstance(error, Exception):
            await self._say(error_message(api_error_of(error), task_id))

    async def _send_all(self, subscription: Subscription, before: list[dict[str, Json]]) -> None:
        for each in before:
            await self._say(each)
        async with aclosing(subscription.batches()) as batches:
            async for batch in batches:
                for event in batch:
                    await self._say(event.to_dict())
                self._streams.note_sent(batch)

    async def _until_deleted(self, root_id: str) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_SECONDS)
            if await is_deleted(self._service.db, root_id):
                return

    async def _say(self, said: dict[str, Json]) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await self._socket.send_text(dumps(said).decode())


def _has_timeout(errors: BaseExceptionGroup[Exception]) -> bool:
    return isinstance(errors.exceptions[0], TimeoutError)


def _offered(socket: WebSocket) -> tuple[str | None, bool]:
    """Return the token of a handshake, if it has one, and whether our subprotocol is offered."""
    offered = [str(each) for each in socket.scope.get("subprotocols", [])]
    tokens = [each.removeprefix(TOKEN_PREFIX) for each in offered if each.startswith(TOKEN_PREFIX)]
    token = bearer(socket)
    if token is not None or not tokens:
        return token, SUBPROTOCOL in offered
    if SUBPROTOCOL not in offered:
        raise UnauthorizedError(f"offer the subprotocol {SUBPROTOCOL} beside it")
    return tokens[0], True


async def _authenticated(socket: WebSocket) -> TaskService:
    """Return what the caller may do that the first message names."""
    async with asyncio.timeout(TOKEN_TIME):
        message = read_message(await _receive(socket))
    if not isinstance(message, Authenticate):
        raise UnauthorizedError
    return await _service(socket, message.token)


async def _service(socket: WebSocket, token: str | None) -> TaskService:
    return service_for(socket, await caller_of(socket.app.state.token_check, token))


async def _receive(socket: WebSocket) -> str:
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", 1005))
    text = received.get("text")
    if text is None:
        raise ApiError(400, Code.INVALID_REQUEST, "Messages must be text frames, not binary.")
    return str(text)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    try:
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))
    except (RuntimeError, WebSocketDisconnect):
        logger.debug("A WebSocket was closed at both ends at once.")
