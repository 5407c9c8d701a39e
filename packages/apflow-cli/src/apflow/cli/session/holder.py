"""The process that holds the database of the settings, and that does a command's work."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from apflow.cli.inputs.stored_tokens import token_for
from apflow.core.errors import HolderGoneError
from apflow.core.process.local_socket import IS_SUPPORTED
from apflow.core.process.server_file import ServerInfo, find_server
from apflow.core.service.task_service import TaskService
from apflow.core.store.session import get_default_session

if TYPE_CHECKING:
    from apflow.client import Client

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CONNECT_TIMEOUT_SECONDS = 2.0  # seconds in which a server must be reached


class Holder(Protocol):
    """Another process that holds the database."""

    @property
    def has_changed(self) -> bool:
        """Whether it has changed something for this command."""
        ...

    async def perform(self, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
        """Do a command's work.

        Raises:
            HolderGoneError: the process has ended, or closed the database.
            StoreHeldError: the process does not do this for other processes.
        """
        ...


def find_holder() -> Holder | None:
    """Return the process that holds the database of the settings, if this command may ask it."""
    file = get_default_session().file
    info = find_server(file) if file is not None else None
    if info is None:
        return None
    if info.needs_token:
        token = token_for(info.url) if info.url else ""
        return ServingHolder(info, token) if token else None
    if info.url:
        return ServingHolder(info, "")
    return LocalHolder(info) if info.socket and IS_SUPPORTED else None


class ServingHolder:
    """A server, which is asked at its URL."""

    def __init__(self, info: ServerInfo, token: str) -> None:
        self._info, self._token = info, token
        self.has_changed = False

    async def perform(self, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
        """Do a command's work."""
        from apflow.client import Client, RemoteService

        url, pid = self._info.url, self._info.pid
        async with Client(url, self._token, patience=CONNECT_TIMEOUT_SECONDS) as client:
            if not await _is_there(client):
                raise HolderGoneError(pid, was_sent=False)
            logger.info("Done by the server at %s (process %d), which holds it.", url, pid)
            self.has_changed = True  # unknown from here on
            return await work(RemoteService(client))


class LocalHolder:
    """Any process that has the database open, which is asked at its Unix socket."""

    def __init__(self, info: ServerInfo) -> None:
        from apflow.client.local_client import LocalClient

        self._client = LocalClient(info)
        self._pid = info.pid

    @property
    def has_changed(self) -> bool:
        """Whether it has changed something for this command."""
        return self._client.has_changed

    async def perform(self, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
        """Do a command's work."""
        from apflow.client.service import RemoteService

        logger.info("Done by process %d, which holds it.", self._pid)
        return await work(RemoteService(self._client))


async def _is_there(client: Client) -> bool:
    """Return whether a server still accepts requests: it may have just ended."""
    from apflow.client import ServerUnreachableError

    try:
        await client.call("system.health", patience=0)
    except ServerUnreachableError as error:
        if error.was_sent:
            raise
        return False
    return True
