"""One store per database and process, found by its URL.

The scheme of a URL names the storage (`duckdb:///apflow.duckdb`, `memory://`): an entry point of the group
`apflow.storages`, a function of a URL and the settings that returns a store. It opens nothing, and puts the
URL in the one form that all ways of writing it share.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import warnings
from collections.abc import Callable
from importlib import import_module
from os import PathLike, fspath
from typing import cast

from apflow.core import plugins
from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.model.custom_columns import (
    chosen_task_model_class,
    get_task_model_class,
    set_task_model_class,
)
from apflow.core.process.identity import ForkLock, after_fork_in_child
from apflow.core.settings import Settings, get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.duckdb_url import default_url
from apflow.core.store.memory import MemoryStore

__all__ = ["create_session", "get_default_session", "get_task_model_class", "set_task_model_class"]

logger = logging.getLogger(__name__)

GROUP = "apflow.storages"
StoreFactory = Callable[[str, Settings], TaskStore]

_stores: dict[str, TaskStore] = {}
_default: TaskStore | None = None  # of set_default_session()
_lock = ForkLock()  # guards _stores
_inherited: list[TaskStore] = []  # stores of the process that this one was forked from, never closed here
_NO_STORAGE = (
    "No storage is installed: tasks are kept in memory and are lost when this process ends. "
    "Install apflow-storage-duckdb, or set APFLOW_DATABASE_URL."
)


def create_session(
    url: str | None = None, *, connection_string: str | None = None, path: str | PathLike[str] | None = None
) -> TaskStore:
    """Return the store of a database: always the same one, until it is closed.

    Without a URL: the one that the settings name, else a DuckDB file in the user's data folder. Nothing is
    opened before the first operation.

    Args:
        url: the URL of the database, such as "duckdb:///tasks.duckdb"; None for that of the settings.
        connection_string: the former name of `url`.
        path: a DuckDB file, in place of its URL; None for none.

    Raises:
        InvalidInputError: the URL has no scheme, no storage of that scheme is installed, or several
            arguments name different databases.
        SettingsError: APFLOW_TASK_MODEL_CLASS does not name a class.
    """
    given = {each for each in (url, connection_string, _url_of_file(path)) if each}
    if len(given) > 1:
        raise InvalidInputError(
            "create_session() takes one of url, connection_string and path, not several that differ."
        )
    settings = get_settings()
    if settings.task_model_class and chosen_task_model_class() is None:
        set_task_model_class(_load_class(settings.task_model_class))
    store = _make(next(iter(given), None) or settings.database_url or _default_url(), settings)
    with _lock.lock:
        known = _stores.get(store.url)
        if known is not None and not known.is_closed:
            return known
        for closed in [each for each, kept in _stores.items() if kept.is_closed]:
            del _stores[closed]
        _stores[store.url] = store
    return store


def _load_class(name: str) -> type:
    """Return the class that a setting names, as "module:Class" or "module.Class".

    Raises:
        SettingsError: there is no such class.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"APFLOW_TASK_MODEL_CLASS is {name!r}, which cannot be imported: {error}. "
            'Give it as "module:Class", with a module on Python\'s path.'
        ) from error
    if not isinstance(found, type):
        raise SettingsError(f"APFLOW_TASK_MODEL_CLASS is {name!r}, which is not a class.")
    return found


def get_default_session() -> TaskStore:
    """Return the store that `set_default_session` has chosen, else the one that the settings name."""
    return _default if _default is not None and not _default.is_closed else create_session()


def set_default_session(db: TaskStore | None) -> None:
    """Choose the store of everything in this process that is not given one; None: that of the settings.

    It is the choice of this process until the store is closed.
    """
    global _default
    _default = db


def reset_default_session() -> None:
    """Take the choice of `set_default_session` back."""
    set_default_session(None)


def _url_of_file(path: str | PathLike[str] | None) -> str | None:
    return None if path is None else f"duckdb:///{fspath(path)}"


def _make(url: str, settings: Settings) -> TaskStore:
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if "://" not in url or not scheme:
        raise InvalidInputError(
            f"{_without_password(url)!r} is not a valid database URL. Expected something like duckdb:///apflow.duckdb."
        )
    if scheme == "memory":
        return MemoryStore(url)
    return _factory(scheme)(url, settings)


def _factory(scheme: str) -> StoreFactory:
    if plugins.find(GROUP, scheme) is None:
        known = ", ".join(sorted({"memory", *plugins.names(GROUP)}))
        raise InvalidInputError(
            f"No storage for {scheme}:// is installed (there are: {known}).{_advice(scheme)}"
        )
    return cast("StoreFactory", plugins.load(GROUP, scheme))


def _advice(scheme: str) -> str:
    distribution = {
        "duckdb": "apflow-storage-duckdb",
        "postgresql": "apflow-storage-postgres",
        "postgres": "apflow-storage-postgres",
    }.get(scheme)
    return f" Install {distribution}." if distribution else ""


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"***@{after}" if at and before else url


def _default_url() -> str:
    if plugins.find(GROUP, "duckdb") is None:
        warnings.warn(_NO_STORAGE, stacklevel=3)
        logger.warning(_NO_STORAGE)
        return "memory://"
    return default_url()


def _start_without_stores() -> None:
    """In a forked process: leave alone what the first one has opened. Stores not yet opened open here."""
    _inherited.extend(store for store in _stores.values() if store.is_forked)
    for store in _inherited:
        _stores.pop(store.url, None)


after_fork_in_child(_start_without_stores)


@atexit.register
def close_stores() -> None:
    """Close every store that is open, as the end of the process does."""
    with _lock.lock:
        stores = [store for store in _stores.values() if not store.is_closed]
        _stores.clear()
    if stores:
        asyncio.run(_close_each(stores))


async def _close_each(stores: list[TaskStore]) -> None:
    for store in stores:
        try:
            await store.close()
        except Exception:  # the others must still be closed
            logger.exception("%s could not be closed", store.url)
