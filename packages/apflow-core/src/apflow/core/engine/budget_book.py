"""The accounts of budgets in the store, as one process changes them."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from apflow.core.engine.record_book import RecordBook
from apflow.core.model.budget import RECORDS, BudgetAccount
from apflow.core.process.identity import ForkLock
from apflow.core.store.base import Record, TaskStore

BudgetBook = RecordBook[BudgetAccount]


async def read_account(store: TaskStore, task_id: str) -> Record | None:
    """Return the record of the account of a task's budget, None if there is none."""
    return await store.record(RECORDS, task_id)


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
            book = books[loop] = RecordBook(RECORDS, BudgetAccount.from_json)
        return book
