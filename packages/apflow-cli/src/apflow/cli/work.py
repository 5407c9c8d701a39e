"""Doing a command's work: the modules it names imported, the store opened, one event loop around it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click
from apflow.cli.options import Session, session_of
from apflow.core.errors import InvalidInputError, StoreLockedError
from apflow.core.service import TaskService
from apflow.core.session import get_default_session
from apflow.core.settings import get_settings
from apflow.core.store import TaskStore

Answer = TypeVar("Answer")

LOCK_INTERVAL = 0.1  # seconds between two attempts at a locked database


def perform(ctx: click.Context, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    """Run a command's work on the store that the settings name. Ctrl-C cancels the work and waits for it."""
    session = session_of(ctx)
    prepare(session)
    return asyncio.run(_perform(session, work))


async def _perform(session: Session, work: Callable[[TaskService], Awaitable[Answer]]) -> Answer:
    async with get_default_session() as db:
        await open_store(db, session.wait_lock)
        return await work(TaskService(db))


def prepare(session: Session) -> None:
    """Set up logging and warnings for people, and import the modules that were named."""
    logging.basicConfig(level=get_settings().log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    warnings.formatwarning = _format_warning
    import_modules([*get_settings().import_modules, *session.modules])


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"Warning: {message}\n"


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


def import_modules(names: Iterable[str]) -> None:
    """Import modules, also from the working folder, for what they register.

    Raises:
        InvalidInputError: a module is not there or does not import.
    """
    here = str(Path.cwd())
    for name in names:
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            importlib.import_module(name)
        except Exception as error:
            raise InvalidInputError(_why_not(name, here, error)) from error


def _why_not(name: str, here: str, error: Exception) -> str:
    is_missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
    if is_missing:
        return (
            f"There is no module {name!r} to import (--import, APFLOW_IMPORT). Looked in {here} "
            "and on Python's path; give the name as in an import statement, without .py."
        )
    return f"Importing {name!r} failed with {type(error).__name__}: {error}. --debug shows where."


async def ids(service: TaskService, given: Iterable[str]) -> list[str]:
    """Return the ids that texts stand for: full ids, or prefixes that only one id begins with."""
    return [await service.find_id(each) for each in given]
