"""Notifies clients of changes to the tasks that they have subscribed to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

from apflow.core.errors import ApflowError
from apflow.core.model.event import LIVE
from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError
from apflow.server.mcp.calls import Calls, events_of
from apflow.server.mcp.changes import batched
from apflow.server.mcp.exchange import INVALID_PARAMS, Exchange, ProtocolError
from apflow.server.mcp.resources import TREE, not_found, operation_of

logger = logging.getLogger(__name__)

POLL_INTERVAL_SECONDS: Final = 2.0  # between looks for the next run of a tree
MAX_PER_SESSION: Final = 100  # resources

Notify = Callable[[str], Awaitable[object]]


class Subscriber(Protocol):
    """A session that can be notified of changes."""

    @property
    def key(self) -> object:
        """What identifies the session."""
        ...

    async def notify(self, uri: str) -> None:
        """Notify the client that a resource has changed."""

    def when_closed(self, callback: Callable[[], object]) -> None:
        """Call back when the session has ended."""


class Updates:
    """The subscriptions of the sessions of one server.

    Args:
        calls_of: returns what the sender of a request may call.
    """

    def __init__(self, calls_of: Callable[[Exchange], Calls]) -> None:
        self._calls_of = calls_of
        self._watching: dict[object, dict[str, asyncio.Task[None]]] = {}  # by session and URI

    async def subscribe(
        self, exchange: Exchange, params: Mapping[str, Json], subscriber: Subscriber
    ) -> dict[str, Json]:
        """Notify a session of changes to a resource until it unsubscribes or ends."""
        uri, key = str(params["uri"]), subscriber.key
        calls = self._calls_of(exchange)
        root_id = await _root_of(calls, uri)
        if root_id is None:
            raise not_found(uri)
        if key not in self._watching:
            self._watching[key] = {}
            subscriber.when_closed(lambda: self._forget(key))
        own = self._watching[key]
        if len(own) >= MAX_PER_SESSION:
            raise ProtocolError(INVALID_PARAMS, f"A session has at most {MAX_PER_SESSION} subscriptions.")
        if uri not in own:
            following = _follow(calls, root_id, uri, subscriber.notify)
            own[uri] = asyncio.create_task(following, name="apflow:mcp:updates")
        return {}

    async def unsubscribe(
        self,
        exchange: Exchange,  # noqa: ARG002 - as every handler has it
        params: Mapping[str, Json],
        subscriber: Subscriber,
    ) -> dict[str, Json]:
        """Notify a session no longer of changes to a resource."""
        watching = self._watching.get(subscriber.key, {}).pop(str(params["uri"]), None)
        if watching is not None:
            watching.cancel()
        return {}

    @asynccontextmanager
    async def watching(self, exchange: Exchange, uris: Sequence[str], notify: Notify) -> AsyncGenerator[None]:
        """Notify of changes to resources while the context lasts. Unknown resources never change."""
        calls = self._calls_of(exchange)
        tasks: list[asyncio.Task[None]] = []
        for uri in list(dict.fromkeys(uris))[:MAX_PER_SESSION]:
            root_id = await _root_of(calls, uri)
            if root_id is not None:
                following = _follow(calls, root_id, uri, notify)
                tasks.append(asyncio.create_task(following, name="apflow:mcp:updates"))
        try:
            yield
        finally:
            for each in tasks:
                each.cancel()

    def close(self) -> None:
        """End all subscriptions."""
        for key in list(self._watching):
            self._forget(key)

    def _forget(self, key: object) -> None:
        for each in self._watching.pop(key, {}).values():
            each.cancel()


async def _root_of(calls: Calls, uri: str) -> str | None:
    """Return the root of the tree that a resource shows; None if the caller sees no such resource."""
    try:
        operation, given = operation_of(uri)
        if "task_id" not in given:
            return None
        return str((await calls.call("tasks.get", given))["root_id"]) if operation else None
    except (ApiError, ProtocolError):
        return None


async def _follow(calls: Calls, root_id: str, uri: str, notify: Notify) -> None:
    """Notify of changes to a resource, of this run and of later ones."""
    try:
        async with aclosing(batched(_changes(calls, root_id, uri))) as changes:
            async for _ in changes:
                await notify(uri)
    except ApflowError as error:  # the tree was deleted, or the database cannot be read
        logger.info("A subscription to %s ends: %s", uri, error)


async def _changes(calls: Calls, root_id: str, uri: str) -> AsyncGenerator[None, None]:
    """Yield after each change to a resource."""
    task_id = None if uri.endswith(TREE) else str(operation_of(uri)[1]["task_id"])
    after: int | None = None
    while True:
        async with aclosing(events_of(calls, root_id, after)) as events:
            async for event in events:
                after = event["sequence"]
                is_change = event["type"] != "snapshot" and event["type"] not in LIVE
                if is_change and task_id in (None, event["task_id"], event["key"]):
                    yield
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
