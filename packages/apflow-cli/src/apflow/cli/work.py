"""Doing a command's work: the store opened, one event loop around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import click

from apflow.cli.options import Session, session_of
from apflow.cli.preparation import prepare
from apflow.core.errors import StoreLockedError
from apflow.core.service import TaskService
from apflow.core.session import get_default_session
from apflow.core.settings import get_settings
from apflow.core.store import TaskStore

Answer = TypeVar("Answer")

PATIENCE = 2.0  # seconds in which a server must be reached
LOCK_INTERVAL = 0.1  # seconds between two attempts at a locked database


def perform(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work: by the server that is named, else on the store that the settings name.

    Ctrl-C cancels the work and waits for it.
    """
    session = session_of(ctx)
    prepare(session)
    url = server_of(session)
    return asyncio.run(_perform_there(url, work) if url else _perform(session, work))


def perform_here(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work on the store that the settings name, also where they name a server."""
    session = session_of(ctx)
    prepare(session)
    return asyncio.run(_perform(session, work))


def server_of(session: Session) -> str:
    """Return the address of the server that is to do a command's work; none if it is done here."""
    return session.server or get_settings().api_url


async def _perform_there(url: str, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    from apflow.client import Client, RemoteService

    async with Client(url, get_settings().api_token, patience=PATIENCE) as client:
        return await work(RemoteService(client))


async def _perform(session: Session, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
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
    """Return the ids that texts stand for: full ids, or prefixes that only one id begins with."""
    return [await service.find_id(each) for each in given]
