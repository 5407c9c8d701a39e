"""Doing a command's work: the store opened, or a server found, and one event loop around it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from apflow.cli.inputs.options import Session, session_of
from apflow.cli.session.preparation import prepare
from apflow.cli.session.signals import run_until_interrupted
from apflow.core.engine.gc_tuning import tune_process
from apflow.core.errors import NotFoundError, StoreLockedError
from apflow.core.model.task import Json
from apflow.core.process.server_file import ServerInfo, find_server
from apflow.core.service.runs import split_ids
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session

if TYPE_CHECKING:
    from apflow.client import Client

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CONNECT_TIMEOUT_SECONDS = 2.0  # seconds in which a server must be reached
LOCK_INTERVAL = 0.1  # seconds between two attempts at a locked database


def perform(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work: by the server that is named, or that holds the store of the settings; else here.

    Ctrl-C cancels the work and waits for it; a second Ctrl-C ends the process at once.
    """
    session = session_of(ctx)
    prepare(session)
    url = server_of(session)
    return run_until_interrupted(_perform_there(url, work) if url else _perform_by_holder(session, work))


def perform_here(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work in this process, on the store that the settings name, whatever server there is."""
    session = session_of(ctx)
    prepare(session)
    return run_until_interrupted(_perform(session, work))


def server_of(session: Session) -> str:
    """Return the address of the server that is named to do a command's work; empty if none is."""
    return session.server or get_settings().api_url


async def _perform_there(url: str, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    from apflow.client import Client, RemoteService

    async with Client(url, get_settings().api_token, patience=CONNECT_TIMEOUT_SECONDS) as client:
        return await work(RemoteService(client))


async def _perform_by_holder(session: Session, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    holder = _holder()
    if holder is None:
        return await _perform(session, work)
    from apflow.client import Client, RemoteService

    token = get_settings().api_token if holder.needs_token else ""
    async with Client(holder.url, token, patience=CONNECT_TIMEOUT_SECONDS) as client:
        if await _is_there(client):
            logger.info("Done by the server at %s (process %d), which holds it.", holder.url, holder.pid)
            return await work(RemoteService(client))
    return await _perform(session, work)


def _holder() -> ServerInfo | None:
    """Return the server that holds the store that the settings name, if this command may ask it."""
    file = get_default_session().file
    holder = find_server(file) if file is not None else None
    may_ask = holder is not None and (not holder.needs_token or bool(get_settings().api_token))
    return holder if may_ask else None


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


async def _perform(session: Session, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    tune_process()
    async with get_default_session() as db:
        await open_store(db, session.wait_lock)
        return await work(TaskService(db))


async def open_store(db: TaskStore, wait: float) -> None:
    """Open the database, waiting so many seconds where another process holds it.

    Raises:
        StoreLockedError: it is still held.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            await db.get(["any"])  # a store opens with its first operation
        except StoreLockedError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(LOCK_INTERVAL)  # a lock of another process sends no event
        else:
            return


async def ids(service: TaskService, given: Iterable[str]) -> list[str]:
    """Return the full ids for the given ids, each of which is complete or a unique prefix."""
    return [await service.find_id(each) for each in given]


async def ids_as_given(service: TaskService, given: Iterable[str]) -> list[str]:
    """Return the ids that strings stand for; an unknown one stands for itself, so that the others count.

    A string may name several ids, with commas between them.
    """
    found: list[str] = []
    for each in split_ids(given):
        try:
            found.append(await service.find_id(each))
        except NotFoundError:
            found.append(each)
    return found


def check_found(rows: Sequence[Mapping[str, Json]]) -> None:
    """Raise `NotFoundError` where a task was named, alone, that does not exist."""
    if len(rows) == 1 and rows[0]["status"] == "not_found":
        raise NotFoundError(rows[0]["task_id"])
