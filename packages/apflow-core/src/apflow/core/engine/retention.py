"""Deletes trees that ended long ago, in small batches, while other work continues."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Final

from apflow.core.authoring.delete_plan import delete_tasks
from apflow.core.errors import ConflictError, StoreError
from apflow.core.model.parts import parts
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task, utc_now
from apflow.core.planning.retention import RetentionRules, has_ended_before
from apflow.core.store.base import TaskQuery, TaskStore

logger = logging.getLogger(__name__)

BATCH: Final = 10  # trees that are deleted together
BATCH_TASKS: Final = 1_000  # tasks that are deleted together, unless one tree has more
REST: Final = 2.0  # after each batch, other work has the store for so many times as long as the batch took
PAGE: Final = 500  # roots that one query returns at most
EVERY_SECONDS: Final = 3600.0  # between two searches for expired trees


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted, or would be."""

    trees: int
    tasks: int
    has_more: bool = False  # the limit was reached: there may be more such trees


async def purge(
    db: TaskStore,
    query: TaskQuery,
    *,
    limit: int | None = None,
    is_wanted: Callable[[Task], bool] = lambda _: True,
) -> Purged:
    """Delete ended trees in small batches, with pauses between them for other work.

    A tree that is run or changed meanwhile is not deleted.

    Args:
        query: finds the roots; see `planning.retention.ended_roots`.
        limit: the maximum number of trees to delete; None for all.
        is_wanted: whether to delete the tree of a root that the query finds.

    Raises:
        StoreError: the store cannot be read or written. What was deleted before stays deleted.
    """
    assert query.completed_before is not None
    trees = tasks = 0
    size_of_page = PAGE if limit is None else min(PAGE, limit + 1)
    async with aclosing(_pages(db, query, size_of_page)) as pages:
        async for page in pages:
            roots = [root.id for root in page if is_wanted(root)]
            sizes = {root_id: tally.total for root_id, tally in (await db.tallies(roots)).items()}
            for batch in batches_of(roots, sizes):
                began = monotonic()
                chosen = batch if limit is None else batch[: limit - trees]
                numbers = await asyncio.gather(
                    *(_delete(db, each, query.completed_before) for each in chosen)
                )
                trees += sum(number > 0 for number in numbers)
                tasks += sum(numbers)
                if len(chosen) < len(batch):
                    return Purged(trees, tasks, has_more=True)
                await asyncio.sleep(REST * (monotonic() - began))
    return Purged(trees, tasks)


def batches_of(roots: Iterable[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide trees among batches, in order. `sizes`: the numbers of their tasks, by root."""
    return parts(roots, lambda root_id: sizes.get(root_id, 0), BATCH_TASKS, BATCH)


async def count_purge(db: TaskStore, query: TaskQuery) -> Purged:
    """Return what `purge` without a limit would delete, without the trees that these trees have started.

    Raises:
        StoreError: the store cannot be read.
    """
    trees = tasks = 0
    async with aclosing(_pages(db, query, PAGE)) as pages:
        async for page in pages:
            for tally in (await db.tallies([root.id for root in page])).values():
                if tally.by_status.keys() <= TERMINAL:
                    trees, tasks = trees + 1, tasks + tally.total
    return Purged(trees, tasks)


async def purge_expired(db: TaskStore, rules: RetentionRules) -> Purged:
    """Delete all trees that ended longer ago than the rules keep them.

    Raises:
        StoreError: the store cannot be read or written.
    """
    trees = tasks = 0
    now = utc_now()
    for query in rules.queries(now):
        done = await purge(db, query, is_wanted=lambda root: rules.is_expired(root, now))
        trees, tasks = trees + done.trees, tasks + done.tasks
    return Purged(trees, tasks)


async def keep_purging(db: TaskStore, rules: RetentionRules) -> None:
    """Delete expired trees every hour. Returns at once if the rules keep all trees forever."""
    while any(True for _ in rules.queries(utc_now())):
        try:
            done = await purge_expired(db, rules)
        except StoreError as error:
            logger.warning("Deleting expired trees failed and is repeated: %s", error)
        else:
            if done.trees:
                logger.info("Deleted %d expired trees with %d tasks.", done.trees, done.tasks)
        await asyncio.sleep(EVERY_SECONDS)


async def _pages(db: TaskStore, query: TaskQuery, size: int) -> AsyncGenerator[Sequence[Task]]:
    last: Task | None = None
    while page := await db.find(replace(query, limit=size, after=last)):
        last = page[-1]
        yield page


async def _delete(db: TaskStore, root_id: str, before: datetime) -> int:
    """Delete a tree, with the trees that it started, if it has ended; return the number of deleted tasks."""
    tasks = await db.tree(root_id)
    if not tasks or not has_ended_before(tasks, before):
        return 0
    try:
        return await delete_tasks(db, tasks, root_id, force=True)
    except ConflictError:  # it was changed meanwhile, or a tree that it started still runs
        return 0
