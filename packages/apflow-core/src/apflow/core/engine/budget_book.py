"""The accounts of budgets in the store, as one process changes them."""

from __future__ import annotations

from apflow.core.concurrency.loop_local import LoopRegistry
from apflow.core.engine.record_book import RecordBook
from apflow.core.model.budget import RECORDS, BudgetAccount
from apflow.core.store.base import Record, TaskStore

BudgetBook = RecordBook[BudgetAccount]


async def read_account(store: TaskStore, task_id: str) -> Record | None:
    """Return the record of the account of a task's budget, None if there is none."""
    return await store.record(RECORDS, task_id)


_books = LoopRegistry[TaskStore, BudgetBook](lambda _: RecordBook(RECORDS, BudgetAccount.from_json))


def book_of(store: TaskStore) -> BudgetBook:
    """Return the book of a store for the running event loop."""
    return _books.of(store)
