"""The accounts of budgets in the store, as one process changes them.

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
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.errors import StoreOutcomeUnknownError
from apflow.core.model.budget import RECORDS, BudgetAccount
from apflow.core.model.task import Json
from apflow.core.process.identity import ForkLock
from apflow.core.store.base import Record, TaskStore

T = TypeVar("T")
Patiently = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

MAX_PAUSE_SECONDS: Final = 0.05  # after a lost race


@dataclass(slots=True)
class _Operation:
    """A change of an account. It may be repeated on a newer account until it is written."""

    make: Callable[[], BudgetAccount]
    change: Callable[[BudgetAccount], Any]
    patiently: Patiently
    done: asyncio.Future[Any]


class BudgetBook:
    """The accounts of one store, for one event loop. It does not refer to the store, which it lives with."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[_Operation]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Record] = {}  # of accounts that are being changed
        self._changed: dict[str, asyncio.Event] = {}

    async def apply(
        self,
        store: TaskStore,
        task_id: str,
        change: Callable[[BudgetAccount], T],
        make: Callable[[], BudgetAccount],
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
        self._waiting.setdefault(task_id, []).append(_Operation(make, change, patiently, done))
        if task_id not in self._writers:
            self._start_writing(store, task_id)
        return await asyncio.shield(done)

    def _start_writing(self, store: TaskStore, task_id: str) -> None:
        """Start the asyncio task that writes an account. It belongs to no caller, so none can cancel it."""
        loop, name = asyncio.get_running_loop(), f"apflow:budget:{task_id}"
        self._writers[task_id] = create_unfenced(
            lambda: loop.create_task(self._write(store, task_id), name=name, context=Context())
        )

    async def wait(self, task_id: str, seconds: float) -> bool:
        """Wait until this process has changed an account; return False after `seconds`."""
        changed = self._changed.setdefault(task_id, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                return await changed.wait()
        except TimeoutError:
            return False

    async def _write(self, store: TaskStore, task_id: str) -> None:
        batch: list[_Operation] = []
        try:
            while batch := self._waiting.pop(task_id, []):
                await self._commit(store, task_id, batch)
        except BaseException as error:
            failure = error if isinstance(error, Exception) else RuntimeError(f"Not written: {error!r}")
            for each in [*batch, *self._waiting.pop(task_id, [])]:
                if not each.done.done():
                    _fail(each.done, failure)
            if not isinstance(error, Exception):
                raise
        finally:
            self._known.pop(task_id, None)
            del self._writers[task_id]

    async def _commit(self, store: TaskStore, task_id: str, batch: list[_Operation]) -> None:
        patiently = batch[0].patiently
        while True:
            known = self._known.get(task_id)
            record: Record | None = known or await patiently(partial(read_account, store, task_id))
            account = BudgetAccount.from_json(record.value) if record is not None else batch[0].make()
            outcomes = [_outcome(each.change, account) for each in batch]
            value = account.to_json()
            if record is not None and value == record.value:
                if known is None:
                    break
                del self._known[task_id]  # another process may have changed it
                continue
            version = 0 if record is None else record.version
            put = partial(store.put_record, RECORDS, task_id, value, version=version)
            try:
                written: Record | None = await patiently(put)
            except StoreOutcomeUnknownError:
                written = None  # what is stored is read again: each change may be applied twice
            if written is not None:
                self._known[task_id] = written
                self._note_change(task_id)
                break
            self._known.pop(task_id, None)
            await asyncio.sleep(random.uniform(0, MAX_PAUSE_SECONDS))  # noqa: S311 - so that writers do not meet
        for each, (outcome, error) in zip(batch, outcomes, strict=True):
            if error is not None:
                _fail(each.done, error)
            else:
                each.done.set_result(outcome)

    def _note_change(self, task_id: str) -> None:
        changed = self._changed.pop(task_id, None)
        if changed is not None:
            changed.set()


async def read_account(store: TaskStore, task_id: str) -> Record | None:
    """Return the record of the account of a task's budget, None if there is none."""
    return await store.record(RECORDS, task_id)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    done.set_exception(error)
    done.exception()  # retrieved: the caller may be gone


def _outcome(change: Callable[[BudgetAccount], Any], account: BudgetAccount) -> tuple[Json, Exception | None]:
    try:
        return change(account), None
    except Exception as error:  # noqa: BLE001 - given to the caller
        return None, error


_books: WeakKeyDictionary[TaskStore, WeakKeyDictionary[asyncio.AbstractEventLoop, BudgetBook]]
_books = WeakKeyDictionary()
_lock = ForkLock()


def book_of(store: TaskStore) -> BudgetBook:
    """Return the book of a store for the running event loop."""
    loop = asyncio.get_running_loop()
    with _lock:
        books = _books.setdefault(store, WeakKeyDictionary())
        book = books.get(loop)
        if book is None:
            book = books[loop] = BudgetBook()
        return book
