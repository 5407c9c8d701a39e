"""Accounts in records of the store, as one process changes them.

An account is a record whose version guards it: of two processes that change it, the later one reads it again
and repeats its operations. Operations that this process has waiting for one account are written together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.errors import StoreOutcomeUnknownError
from apflow.core.model.task import Json
from apflow.core.store.base import Record, TaskStore

T = TypeVar("T")
Patiently = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

MAX_PAUSE_SECONDS: Final = 0.05  # after a lost race


class Account(Protocol):
    """What a record contains."""

    def to_json(self) -> dict[str, Json]:
        """Return the account as the store keeps it."""
        ...


A = TypeVar("A", bound=Account)


@dataclass(slots=True)
class _Operation(Generic[A]):
    """A change of an account. It may be repeated on a newer account until it is written."""

    make: Callable[[], A]
    change: Callable[[A], Any]
    patiently: Patiently
    done: asyncio.Future[Any]


class RecordBook(Generic[A]):
    """The accounts of one store, for one event loop. It does not refer to the store, which it lives with.

    Args:
        kind: of the records.
        read: returns the account that a record contains.
    """

    def __init__(self, kind: str, read: Callable[[Json], A]) -> None:
        self._kind, self._read = kind, read
        self._waiting: dict[str, list[_Operation[A]]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Record] = {}  # of accounts that are being changed
        self._changed: dict[str, asyncio.Event] = {}

    async def apply(
        self,
        store: TaskStore,
        key: str,
        change: Callable[[A], T],
        make: Callable[[], A],
        patiently: Patiently,
    ) -> T:
        """Change an account, durably, and return what `change` returns.

        Changes of one account are applied in the order of the calls, also if the caller is cancelled.

        Args:
            change: changes the account. It may be called several times, each time with another account.
            make: returns the account if the store does not have it.
            patiently: repeats an operation of the store while the store is unavailable.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(_Operation(make, change, patiently, done))
        if key not in self._writers:
            self._start_writing(store, key)
        return await asyncio.shield(done)

    def _start_writing(self, store: TaskStore, key: str) -> None:
        """Start the asyncio task that writes an account. It belongs to no caller, so none can cancel it."""
        loop, name = asyncio.get_running_loop(), f"apflow:{self._kind}:{key}"
        self._writers[key] = create_unfenced(
            lambda: loop.create_task(self._write(store, key), name=name, context=Context())
        )

    async def wait(self, key: str, seconds: float) -> bool:
        """Wait until this process has changed an account; return False after `seconds`."""
        return await wait_up_to(seconds, self._changed.setdefault(key, asyncio.Event()))

    async def _write(self, store: TaskStore, key: str) -> None:
        batch: list[_Operation[A]] = []
        try:
            while batch := self._waiting.pop(key, []):
                await self._commit(store, key, batch)
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(f"Not written: {error!r}")
            for each in [*batch, *self._waiting.pop(key, [])]:
                if not each.done.done():
                    _fail(each.done, failure)
            if not isinstance(error, Exception):
                raise
        finally:
            self._known.pop(key, None)
            del self._writers[key]

    async def _commit(self, store: TaskStore, key: str, batch: list[_Operation[A]]) -> None:
        patiently = batch[0].patiently
        while True:
            known = self._known.get(key)
            record: Record | None = known or await patiently(partial(store.record, self._kind, key))
            account = self._read(record.value) if record is not None else batch[0].make()
            outcomes = [_outcome(each.change, account) for each in batch]
            value = account.to_json()
            if record is not None and value == record.value:
                if known is None:
                    break
                del self._known[key]  # another process may have changed it
                continue
            version = 0 if record is None else record.version
            put = partial(store.put_record, self._kind, key, value, version=version)
            try:
                written: Record | None = await patiently(put)
            except StoreOutcomeUnknownError:
                written = None  # what is stored is read again: each change may be applied twice
            if written is not None:
                self._known[key] = written
                self._note_change(key)
                break
            self._known.pop(key, None)
            await asyncio.sleep(random.uniform(0, MAX_PAUSE_SECONDS))  # noqa: S311 - so that writers do not meet
        for each, (outcome, error) in zip(batch, outcomes, strict=True):
            if error is not None:
                _fail(each.done, error)
            else:
                each.done.set_result(outcome)

    def _note_change(self, key: str) -> None:
        changed = self._changed.pop(key, None)
        if changed is not None:
            changed.set()


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    done.set_exception(error)
    done.exception()  # retrieved: the caller may be gone


def _outcome(change: Callable[[A], Any], account: A) -> tuple[Json, Exception | None]:
    try:
        return change(account), None
    except Exception as error:  # noqa: BLE001 - given to the caller
        return None, error
