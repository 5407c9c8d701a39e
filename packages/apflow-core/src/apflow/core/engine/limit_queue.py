"""Waiting for places of limits that are counted in the store.

All runs of a process that wait for one limit share a place in its line in the store. One asyncio task for
each limit asks for them. Between two requests it sleeps until the rate allows the next start, until a task of
this process frees a place, or until another process reports events of a tree that holds one; as notices may
be lost, it looks again after at most a second if only the end of a task can free a place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from time import time
from typing import Any, Final, Protocol
from weakref import WeakValueDictionary

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.loop_local import LoopRegistry
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.record_book import Patiently, RecordBook
from apflow.core.events.bus import bus_of
from apflow.core.model.ids import new_ids
from apflow.core.model.limit import RECORDS, Claim, Held, Limit, LimitAccount, Room, account_key
from apflow.core.model.task import Task
from apflow.core.store.base import NoticeKind, TaskStore

logger = logging.getLogger(__name__)

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.05, 1.0  # between looks while only the end of a task frees a place
MAX_SLEEP_SECONDS: Final = 30.0  # while the rate decides
DEAD_AFTER_SECONDS: Final = 2.0  # of waiting: then it is checked whether the holders are alive


class Waiter(Protocol):
    """A run that waits for places of a limit."""

    store: TaskStore
    owner: str | None

    def claims(self) -> Sequence[Claim]:
        """Return the tasks that want a place, in order."""
        ...

    def take(self, task_id: str) -> bool:
        """Take a place for a task; return False if the task does not want it any more."""
        ...

    async def patiently(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat an operation of the store while the store is unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """The outcome of one request."""

    granted: list[tuple[Waiter, str]]  # with the id of the task
    is_short: bool  # whether there were more claims than places
    room: Room
    held: Mapping[str, Held]


class LimitQueue:
    """The runs of one event loop that wait for one limit, and the changes of its account.

    Args:
        key: of the record.
    """

    def __init__(self, book: RecordBook[LimitAccount], key: str) -> None:
        self._book, self._key = book, key
        self._loop = asyncio.get_running_loop()
        [self._id] = new_ids(1)  # in the line in the store
        self._line: dict[Waiter, None] = {}
        self._worker: asyncio.Task[None] | None = None
        self._is_changed = asyncio.Event()
        self._is_in_line = False  # in the store
        self._is_out = asyncio.Event()  # set unless it is still in line in the store and no run waits
        self._is_out.set()
        self._holders: frozenset[str] = frozenset()  # roots of the trees that hold places

    def join(self, waiter: Waiter) -> None:
        """Ask for the claims of a run, until there are no claims, or it leaves."""
        if waiter in self._line:
            return
        self._line[waiter] = None
        self._is_changed.set()
        self._is_out.set()
        if self._worker is None:
            work, name = self._work(waiter.store), f"apflow:limit:{self._key}"
            self._worker = create_unfenced(lambda: self._loop.create_task(work, name=name, context=Context()))

    def leave(self, waiter: Waiter) -> None:
        """Stop asking for a run."""
        if self._line.pop(waiter, waiter) is None:
            self._is_changed.set()
        if self._is_in_line and not self._line:
            self._is_out.clear()

    async def change(self, waiter: Waiter, change: Callable[[LimitAccount], object]) -> None:
        """Change the account for a run, durably."""
        await self._apply(waiter.store, change, waiter.patiently)
        self._is_changed.set()

    async def _apply(
        self,
        store: TaskStore,
        change: Callable[[LimitAccount], Any],
        patiently: Patiently,
    ) -> Any:
        return await self._book.apply(store, self._key, change, LimitAccount, patiently)

    async def left(self) -> None:
        """Wait until it has left the line in the store, if no run waits."""
        await self._is_out.wait()

    async def _work(self, store: TaskStore) -> None:
        """Ask for places while runs wait."""
        try:
            with bus_of(store).on_notice(NoticeKind.EVENTS, self._notice):
                while self._line:
                    patiently = next(iter(self._line)).patiently
                    await self._wait_for_places(store)
                    if self._is_in_line:
                        await self._leave(store, patiently)
        finally:
            self._worker, self._is_in_line = None, False
            self._is_out.set()

    async def _leave(self, store: TaskStore, patiently: Patiently) -> None:
        """Leave the line in the store."""
        try:
            await self._apply(store, lambda account: account.leave(self._id), patiently)
        except Exception as error:  # noqa: BLE001 - the place in the line lapses
            logger.warning("The line of limit %s cannot be left: %s", self._key, error)
        self._is_in_line = False
        self._is_out.set()

    async def _wait_for_places(self, store: TaskStore) -> None:
        pause, checked_at = MIN_POLL_SECONDS, self._loop.time()
        while self._line:
            self._is_changed.clear()
            try:
                answer = await self._ask(store)
            except Exception as error:  # noqa: BLE001 - as long as tasks wait, it is tried again
                logger.warning("Limit %s cannot be counted for the moment: %s", self._key, error)
                await asyncio.sleep(MAX_POLL_SECONDS)
                continue
            if answer.granted:
                pause, checked_at = MIN_POLL_SECONDS, self._loop.time()
            if not answer.is_short:
                continue
            seconds = pause if answer.room.seconds is None else answer.room.seconds
            if await wait_up_to(max(0.001, min(MAX_SLEEP_SECONDS, seconds)), self._is_changed):
                pause = MIN_POLL_SECONDS
            elif answer.room.seconds is None:
                pause = min(MAX_POLL_SECONDS, 2 * pause)
            if self._loop.time() - checked_at >= DEAD_AFTER_SECONDS:
                checked_at = self._loop.time()
                await self._free_dead(store, answer.held)

    async def _ask(self, store: TaskStore) -> _Answer:
        """Ask for the claims of all runs, and hand out what is granted."""
        patiently = next(iter(self._line)).patiently
        answer: _Answer = await self._apply(store, self._request, patiently)
        self._holders = frozenset(held.root_id for held in answer.held.values())
        refused = [
            (waiter, task_id)
            for waiter, task_id in answer.granted
            if waiter not in self._line or not waiter.take(task_id)
        ]
        for waiter in [waiter for waiter, _ in answer.granted]:
            if waiter in self._line:  # the next place is for another one
                del self._line[waiter]
                self._line[waiter] = None
        for waiter in list(self._line):
            if not waiter.claims():
                del self._line[waiter]
        if refused:
            await self._apply(store, lambda account: _give_back(account, refused), patiently)
        self._is_in_line = answer.is_short
        return answer

    def _request(self, account: LimitAccount) -> _Answer:
        """Request places in the account. It may be called several times, each time with another account."""
        claims = _in_turn([[(waiter, each) for each in waiter.claims()] for waiter in self._line])
        now = time()
        owner = next(iter(self._line)).owner if self._line else None
        wanted = [claim for _, claim in claims]
        granted = account.grant(self._id, owner, wanted, now)
        waiters = {claim.task_id: waiter for waiter, claim in claims}
        rules = {claim.rule for claim in wanted}
        return _Answer(
            [(waiters[each], each) for each in granted],
            len(granted) < len(wanted),
            account.room(rules, now),
            dict(account.held),
        )

    def _notice(self, root_id: str) -> None:
        """Look again, because another process has changed a tree that holds a place. Thread-safe."""
        if root_id in self._holders:
            call_in_loop(self._loop, self._is_changed.set)

    async def _free_dead(self, store: TaskStore, held: Mapping[str, Held]) -> None:
        """Free the places of tasks whose process has died."""
        try:
            waiter = next(iter(self._line), None)
            dead = [] if waiter is None else await dead_holders(store, held, waiter.owner)
            if waiter is not None and dead:
                await self._apply(store, lambda account: account.drop(dead, time()), waiter.patiently)
                logger.info("Limit %s: %d places of dead processes are free again.", self._key, len(dead))
        except Exception as error:  # noqa: BLE001 - it is tried again
            logger.warning("The holders of limit %s cannot be checked: %s", self._key, error)


def _give_back(account: LimitAccount, granted: Sequence[tuple[Waiter, str]]) -> None:
    for waiter, task_id in granted:
        account.give_back(task_id, waiter.owner)


def _in_turn(lists: Sequence[Sequence[tuple[Waiter, Claim]]]) -> list[tuple[Waiter, Claim]]:
    """Return the first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [each[index] for index in range(longest) for each in lists if index < len(each)]


async def dead_holders(store: TaskStore, held: Mapping[str, Held], owner: str | None) -> list[str]:
    """Return the tasks that hold places although no living process runs their trees.

    The rules are those of recovery: the lease of the owner has ended, or another process has the tree. On a
    store of one process, every other owner is dead.

    Args:
        owner: this process, as an owner of runs.
    """
    root_ids = list({each.root_id for each in held.values()})
    roots = await store.get(root_ids)
    unowned: set[str] = set()
    if store.capabilities.is_shared and root_ids:
        unowned = {root.id for root in await store.unowned(owner or "", len(root_ids), root_ids)}

    def is_dead(each: Held) -> bool:
        root = roots.get(each.root_id)
        if root is None or root.run_owner != each.owner or root.id in unowned:
            return True
        return not store.capabilities.is_shared and each.owner != owner

    return [task_id for task_id, each in held.items() if is_dead(each)]


async def read_account(store: TaskStore, task: Task) -> LimitAccount | None:
    """Return the account of the limit of a task; None if it has no limit, or no task has used it."""
    limit = Limit.of_task(task)
    if limit is None:
        return None
    record = await store.record(RECORDS, account_key(task.user_id, limit.key))
    return None if record is None else LimitAccount.from_json(record.value)


class LimitDesk:
    """The queues of one store, for one event loop. Runs keep them: they refer to the event loop."""

    def __init__(self) -> None:
        self._book = RecordBook(RECORDS, LimitAccount.from_json)
        self._queues: WeakValueDictionary[str, LimitQueue] = WeakValueDictionary()

    def queue(self, key: str) -> LimitQueue:
        """Return the queue of a limit, by the key of its record."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = LimitQueue(self._book, key)
        return queue


_desks = LoopRegistry[TaskStore, LimitDesk](lambda _: LimitDesk())


def desk_of(store: TaskStore) -> LimitDesk:
    """Return the queues of a store for the running event loop."""
    return _desks.of(store)
