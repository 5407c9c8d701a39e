"""Doing a command's work: the store opened, or a server found, and one event loop around it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import click

from apflow.cli.inputs.options import Session, session_of
from apflow.cli.inputs.stored_tokens import token_for
from apflow.cli.session.holder import CONNECT_TIMEOUT_SECONDS, Holder, find_holder
from apflow.cli.session.preparation import prepare
from apflow.cli.session.signals import run_until_interrupted
from apflow.core.engine.gc_tuning import tune_process
from apflow.core.errors import HolderGoneError, NotFoundError, StoreHeldError, StoreLockedError
from apflow.core.model.task import Json
from apflow.core.service.runs import split_ids
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.session import get_default_session

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

MOMENT_SECONDS = 5.0  # for which a process that has just opened the database is waited for in any case
LOCK_INTERVAL = 0.05  # seconds between two attempts at a locked database


def perform(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work: by the server that is named, or that holds the store of the settings; else here.

    Ctrl-C cancels the work and waits for it; a second Ctrl-C ends the process at once.
    """
    session = session_of(ctx)
    prepare(session)
    url = server_of(session)
    return run_until_interrupted(_perform_there(url, work) if url else perform_by_holder(session, work))


def perform_here(
    ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]], *, is_service: bool = False
) -> Answer:
    """Run a command's work in this process, on the store that the settings name, whatever server there is.

    Args:
        is_service: the work is to run trees for others until the process is stopped.
    """
    session = session_of(ctx)
    prepare(session, is_service=is_service)
    return run_until_interrupted(_perform(work, session.wait_lock))


def perform_unopened(ctx: click.Context, work: Callable[[TaskStore], Awaitable[Answer]]) -> Answer:
    """Run a command's work in this process, on the unopened store that the settings name."""
    prepare(session_of(ctx))
    return run_until_interrupted(_perform_unopened(work))


def server_of(session: Session) -> str:
    """Return the address of the server that is named to do a command's work; empty if none is."""
    return session.server or get_settings().api_url


async def _perform_there(url: str, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    from apflow.client import Client, RemoteService

    async with Client(url, token_for(url), patience=CONNECT_TIMEOUT_SECONDS) as client:
        return await work(RemoteService(client))


async def perform_by_holder(session: Session, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Have the work done by the process that holds the database; else do it here.

    A command that holds the database for a moment, or a process that is about to close it, is waited for.
    """
    deadline = time.monotonic() + max(session.wait_lock, MOMENT_SECONDS)
    while True:
        holder = find_holder()
        try:
            if holder is None:
                return await _perform(work)
            return await _perform_elsewhere(holder, work)
        except StoreLockedError as error:
            if time.monotonic() >= deadline or (holder is not None and holder.has_changed):
                raise
            if not session.wait_lock and _is_lasting(error):
                raise
        await asyncio.sleep(LOCK_INTERVAL)


def _is_lasting(error: StoreLockedError) -> bool:
    """Return whether the holder is a server, or has had the database for more than a moment."""
    return error.url is not None or (isinstance(error, StoreHeldError) and error.seconds > MOMENT_SECONDS)


async def _perform_elsewhere(holder: Holder, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    try:
        return await holder.perform(work)
    except HolderGoneError:
        if holder.has_changed:
            raise
    return await _perform(work)


async def _perform(work: Callable[[TaskService], Awaitable[Answer]], wait: float = 0.0) -> Answer:
    tune_process()
    async with get_default_session() as db:
        await open_store(db, wait)
        return await work(TaskService(db))


async def _perform_unopened(work: Callable[[TaskStore], Awaitable[Answer]]) -> Answer:
    async with get_default_session() as db:
        return await work(db)


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
