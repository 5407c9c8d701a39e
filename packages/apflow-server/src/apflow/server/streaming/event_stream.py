"""Streams of events over HTTP: `text/event-stream`, from a snapshot or from the last event that is known.

A stream ends after the final event of the tree's run, or when the server ends; the client then
reconnects with `Last-Event-ID`. A slow reader does not delay others: its buffer is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from apflow.core.bounds import MAX_COUNT
from apflow.core.errors import StoreError
from apflow.core.events.subscription import Subscription
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.server.auth.authentication import current_service
from apflow.server.auth.caller import Caller, expired
from apflow.server.drain import Drain
from apflow.server.http.api_error import TooManyRequestsError
from apflow.server.streaming.sse_frames import HEARTBEAT, FrameCache, comment, frame, named, pieces

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0  # seconds between two signs of life; proxies close what is silent for 60
SEND_TIMEOUT: Final = 60.0  # seconds that a reader may take nothing
MAX_PER_USER: Final = 500  # open streams, of all kinds
KINDS: Final = ("sse", "websocket", "mcp", "a2a")
COME_BACK: Final = b"retry: 1000\n\n"  # milliseconds until a browser connects again

router = APIRouter(tags=["streams"])


class Streams:
    """The open streams of one application, of all kinds."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self._of_users: Counter[str] = Counter()
        self.frames = FrameCache()
        self.lag = 0.0  # seconds between the last event that was sent anywhere and its sending

    def check(self, caller: Caller) -> None:
        """Check that a user may open one more. The owner of the database always may.

        Raises:
            TooManyRequestsError: it has too many.
        """
        if caller.user_id is not None and self._of_users[caller.user_id] >= MAX_PER_USER:
            raise TooManyRequestsError(
                f"More than {MAX_PER_USER} open streams of one user. A WebSocket has many."
            )

    @contextmanager
    def opened(self, kind: str, caller: Caller) -> Generator[None]:
        """Count a stream while it is open."""
        user_id = caller.user_id or ""
        self.open[kind] += 1
        self._of_users[user_id] += 1
        try:
            yield
        finally:
            self.open[kind] -= 1
            self._of_users[user_id] -= 1
            if not self._of_users[user_id]:
                del self._of_users[user_id]

    def note_sent(self, events: Sequence[TaskEvent]) -> None:
        """Note how old events are when they are sent."""
        self.lag = max(0.0, (utc_now() - events[-1].timestamp).total_seconds())


@router.get(
    "/tasks/{task_id:path}/events",
    summary="Follow the events of a task's tree.",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events, the final one last."},
        204: {"description": "The run has ended, and its last event is the one that was named."},
        404: {"description": "There is no such task."},
    },
)
async def events(
    request: Request,
    task_id: Annotated[str, Path()],
    service: Annotated[TaskService, Depends(current_service)],
    after: Annotated[
        int | None, Query(ge=0, le=MAX_COUNT, description="Number of the last event that is known")
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same; wins over `after`")] = None,
) -> Response:
    """Follow the events of a task's tree: what follows the event that is named, else a snapshot first."""
    request.app.state.streams.check(request.state.caller)
    return await watch_response(service, task_id, read_number(last_event_id, after))


async def watch_response(
    service: TaskService, task_id: str, after: int | None = None, first: dict[str, Json] | None = None
) -> Response:
    """Return a response that streams the events of a task's tree.

    Args:
        after: number of the last event that is known.
        first: data to send before all events, as an event named `answer`.

    Raises:
        NotFoundError: the caller sees no such task.
    """
    state, subscription = await service.follow(task_id, after)
    if subscription.is_over and first is None:
        return Response(status_code=204)  # a browser does not reconnect after this status
    before = [COME_BACK]
    if first is not None:
        before.append(named("answer", first))
    if state is not None:
        before.append(frame(state))
    return EventStream(service.db, subscription, before)


def read_number(given: str | None, other: int | None) -> int | None:
    """Return the number that `Last-Event-ID` gives, else the other one."""
    if given is not None and given.isascii() and given.isdigit() and len(given) < 19:
        return int(given)
    return other


async def until_closed(drain: Drain, caller: Caller) -> None:
    """Wait until the server ends, or the token of a caller has expired."""
    waiting = [
        asyncio.create_task(drain.over(), name="apflow:stream:over"),
        asyncio.create_task(expired(caller), name="apflow:stream:expired"),
    ]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


class SentStream(StreamingResponse):
    """A response that sends events until the server ends or the token expires. Subclasses define the events.

    Args:
        what: what is sent, for the log.
        before: sent first.
    """

    media_type = "text/event-stream"

    def __init__(self, what: str, before: Sequence[bytes]) -> None:
        super().__init__((), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._what = what
        self._before = before
        self._farewell: bytes | None = b""  # None: the client has disconnected

    @abstractmethod
    def pieces(self, streams: Streams) -> AsyncGenerator[bytes]:
        """Yield what to send, in pieces."""

    async def reason_to_end(self) -> str | None:
        """Return why the stream must end now, if it must. Asked before each sign of life."""
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams: Streams = scope["app"].state.streams
        drain: Drain = scope["app"].state.drain
        caller: Caller = scope["state"]["caller"]
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with streams.opened("sse", caller):
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(self._pump(send, streams), name="apflow:stream:pump")
                others = [
                    group.create_task(each, name="apflow:stream")
                    for each in (
                        self._beat(send, pump),
                        self._until_gone(receive, pump),
                        self._until_over(drain, pump),
                        self._until_expired(caller, pump),
                    )
                ]
                await asyncio.wait([pump])
                for each in others:
                    each.cancel()
        if self._farewell is not None:
            await send({"type": "http.response.body", "body": self._farewell, "more_body": False})

    async def _pump(self, send: Send, streams: Streams) -> None:
        try:
            await self._send(send, b"".join(self._before))
            self._before = ()
            async with aclosing(self.pieces(streams)) as sent:
                async for piece in sent:
                    await self._send(send, piece)
        except StoreError as error:
            logger.warning("%s cannot be read: %s", self._what, error)
            self._farewell = comment("the database cannot be read now: come back")
        except TimeoutError:
            logger.info("A reader of %s took nothing for long.", self._what)
            self._farewell = None

    async def _send(self, send: Send, piece: bytes) -> None:
        async with asyncio.timeout(SEND_TIMEOUT):
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _beat(self, send: Send, pump: asyncio.Task[None]) -> None:
        """Give signs of life."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            reason = await self.reason_to_end()
            if reason is not None:
                self._farewell = comment(reason)
                pump.cancel()
                return
            with suppress(TimeoutError):  # the pump waits for the same reader, and ends the stream
                await self._send(send, HEARTBEAT)

    async def _until_gone(self, receive: Receive, pump: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._farewell = None
        pump.cancel()

    async def _until_over(self, drain: Drain, pump: asyncio.Task[None]) -> None:
        await drain.over()
        self._farewell = comment("the server ends: come back")
        pump.cancel()

    async def _until_expired(self, caller: Caller, pump: asyncio.Task[None]) -> None:
        await expired(caller)
        self._farewell = comment("the token has expired: come back with another")
        pump.cancel()


class TreeStream(SentStream):
    """A response that follows one tree until its run has ended, or the tree is deleted."""

    def __init__(self, db: TaskStore, root_id: str, before: Sequence[bytes]) -> None:
        super().__init__(f"Tree {root_id}", before)
        self._db = db
        self._root_id = root_id

    async def reason_to_end(self) -> str | None:
        """Return whether the tree was deleted."""
        return "the tree was deleted" if await is_deleted(self._db, self._root_id) else None


class EventStream(TreeStream):
    """A response with the events of a subscription."""

    def __init__(self, db: TaskStore, subscription: Subscription, before: Sequence[bytes]) -> None:
        super().__init__(db, subscription.root_id, before)
        self._subscription = subscription

    async def pieces(self, streams: Streams) -> AsyncGenerator[bytes]:
        """Yield the frames of the events."""
        async with aclosing(self._subscription.batches()) as batches:
            async for batch in batches:
                for piece in pieces(map(streams.frames.frame, batch)):
                    yield piece
                streams.note_sent(batch)


async def is_deleted(db: TaskStore, root_id: str) -> bool:
    """Return whether a tree has been deleted, as far as the store knows."""
    try:
        return not await db.get([root_id])
    except StoreError:
        return False
