"""The account of the calls of language models that one attempt of a task makes.

Each call is reserved from the budgets of the task, of the tasks above it, and of the tasks above the task
that started its tree. What it used is added to the usage of the task in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from apflow.core.capture.task_log import ENGINE, current_log
from apflow.core.concurrency.completion import finish
from apflow.core.engine.budget_book import BudgetBook, book_of
from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.errors import ApflowError, BudgetExceededError, ModelPriceUnknownError
from apflow.core.events.bus import bus_of
from apflow.core.extensions.model_account import ModelRequest, Reservation
from apflow.core.model.budget import (
    FAIL,
    BudgetAccount,
    Need,
    OpenCall,
    Verdict,
    VerdictKind,
    amounts_used,
    describe_amount,
)
from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.ids import new_ids
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task, task_label, utc_now
from apflow.core.model.usage import ModelUsage, UsageEntry, UsageTotals, totals_of
from apflow.core.payload.secrets import redact
from apflow.core.settings import get_settings
from apflow.core.store.base import Change, TaskStore, Transition

logger = logging.getLogger(__name__)

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.1, 2.0  # between looks at an account that other processes change
MAX_LEVELS: Final = 10_000  # of tasks above each other


class _Tried(NamedTuple):
    """The outcome of a reservation from one account."""

    verdict: Verdict
    account: BudgetAccount  # a copy, after the reservation
    warnings: list[str]

    @property
    def is_granted(self) -> bool:
        """Whether the account has a reservation for the call."""
        return self.verdict.kind is VerdictKind.GRANTED


@dataclass(slots=True)
class _Waiting:
    """What a call that waits for a budget has done so far."""

    seconds: float = MIN_POLL_SECONDS
    is_reported: bool = False


class TaskModelCalls:
    """The `ModelCalls` of one attempt.

    Args:
        without_place: returns a context in which the task holds no place among the executor calls.
        park: ends the attempt if the process shuts down; called while a call waits.
        secrets: of the attempt; they are masked in what observers see.
    """

    def __init__(
        self,
        context: NestingContext,
        task: Task,
        without_place: Callable[[], AbstractAsyncContextManager[None]],
        park: Callable[[], Any],
        secrets: Sequence[str],
    ) -> None:
        self._context, self._task, self._secrets = context, task, secrets
        self._attempt = task.attempt_number
        self._without_place, self._park = without_place, park
        self._above: Above | None = None  # set by the first call
        self._patiently = Patience(f"Task {task.id}", context.patience)
        self.totals: UsageTotals | None = None  # None: no call has ended

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the run."""
        return self._context.loop

    @property
    def task(self) -> Task:
        """The task, as its run has it."""
        return self._context.tasks.get(self._task.id, self._task)

    @property
    def root(self) -> Task | None:
        """The root of the tree of the task."""
        return self._context.tasks.get(self._task.root_id)

    def masked(self, value: Json) -> Json:
        """Return a value with the secrets of the task masked."""
        return redact(value, list(self._secrets))

    # --- before a call -----------------------------------------------------------------------------

    async def reserve(self, request: ModelRequest) -> Reservation:
        """Reserve what a call may use; see `ModelCalls.reserve`."""
        if self._above is None:
            self._above = await above(self._store, self._context.tasks, self._task)
        [call_id] = new_ids(1)
        if not self._budgets:
            return Reservation(call_id, (), request.max_output_tokens)
        need = await _need_of(request)
        granted: Reservation | None = None
        try:
            async with AsyncExitStack() as place:
                waiting: _Waiting | None = None
                while granted is None:
                    tried = await self._try(call_id, request.model, need)
                    short = next((each for each in tried if not each.is_granted), None)
                    if short is None:
                        granted = _granted(call_id, request, tried)
                        break
                    self._refuse_if_over(short)
                    if waiting is None:
                        waiting = _Waiting()
                        await place.enter_async_context(self._without_place())
                    await self._wait(short, waiting)
        except BaseException:
            if granted is not None:  # the task was cancelled while it waited for its place
                await finish(self._release(call_id, None), "apflow:release")
            raise
        assert granted is not None  # the loop ends with it
        return granted

    async def _try(self, call_id: str, model: str, need: Need) -> list[_Tried]:
        """Reserve from each account, the outermost first. If one has not enough, none keeps a reservation."""
        tried: list[_Tried] = []
        try:
            for budget in self._budgets:
                change = partial(self._reserve, call_id, model, need, budget)
                tried.append(await self._apply(budget, change))
                if not tried[-1].is_granted:
                    await self._release(call_id, tried[:-1])
                    return tried
        except BaseException:
            await finish(self._release(call_id, None), "apflow:release")
            raise
        for each in tried:
            await self._warn(each.account, each.warnings)
        return tried

    def _reserve(self, call_id: str, model: str, need: Need, budget: Task, account: BudgetAccount) -> _Tried:
        account.follow(budget)
        if "usd" in account.limits and not need.has_price:
            raise ModelPriceUnknownError(model, budget.id)
        call = OpenCall(self._task.id, self._attempt, utc_now(), {})
        verdict = account.reserve(call_id, call, need)
        warnings = account.warn(get_settings().budget_warning_share)
        return _Tried(verdict, account.copy(), warnings)

    async def _release(self, call_id: str, tried: Sequence[_Tried] | None) -> None:
        """Return what was reserved. `tried`: the accounts that have a reservation; None: any may have."""
        names = None if tried is None else {each.account.task_id for each in tried}
        for budget in self._budgets:
            if names is None or budget.id in names:
                await self._apply(budget, lambda account: account.release(call_id))

    def _refuse_if_over(self, short: _Tried) -> None:
        """Raise if there will not be enough, and the budget says that calls then fail."""
        account, amount = short.account, short.verdict.amount
        if short.verdict.kind is not VerdictKind.EXCEEDED or account.on_exceed != FAIL or amount is None:
            return
        budget = self._budget(account)
        raise BudgetExceededError(
            budget.name,
            budget.id,
            amount,
            describe_amount(amount, account.limits[amount]),
            describe_amount(amount, account.charged().get(amount, 0)),
        )

    async def _wait(self, short: _Tried, waiting: _Waiting) -> None:
        """Wait until the account has changed, or for a while."""
        account = short.account
        if short.verdict.kind is VerdictKind.EXCEEDED and not waiting.is_reported:
            waiting.is_reported = True
            await self._report_exceeded(short)
        if self._context.is_draining:
            await self._park()
        if await self._book.wait(account.task_id, waiting.seconds):
            return
        waiting.seconds = min(MAX_POLL_SECONDS, waiting.seconds * 2)
        dead = await dead_calls(self._store, account)
        if dead:
            await self._apply(self._budget(account), lambda each: each.write_off(dead))

    # --- after a call ------------------------------------------------------------------------------

    async def settle(
        self, reservation: Reservation, request: ModelRequest, usage: ModelUsage, seconds: float
    ) -> None:
        """Charge what a call used; see `ModelCalls.settle`."""
        totals = totals_of(usage, seconds)
        self.totals = (self.totals or UsageTotals()) + totals
        task = self._task
        entry = UsageEntry(
            task_id=task.id,
            root_id=task.root_id,
            top_id=task.root_id if self._above is None else self._above.top_id,
            user_id=task.user_id,
            model=request.model,
            totals=totals,
            call_id=reservation.id,
        )
        await self._patiently(lambda: self._store.add_usage([entry]))
        used = amounts_used(usage.total_tokens, usage.cost_usd, seconds)
        for budget in self._budgets:
            if budget.id not in reservation.account_ids:
                continue

            def settle(account: BudgetAccount) -> tuple[BudgetAccount, list[str]]:
                account.settle(reservation.id, used)
                return account.copy(), account.warn(get_settings().budget_warning_share)

            await self._warn(*await self._apply(budget, settle))

    # --- helpers -----------------------------------------------------------------------------------

    @property
    def _store(self) -> TaskStore:
        return self._context.driver.store

    @property
    def _budgets(self) -> Sequence[Task]:
        """The tasks with budgets that apply, outermost first."""
        return () if self._above is None else self._above.budgets

    @property
    def _book(self) -> BudgetBook:
        return book_of(self._store)

    def _budget(self, account: BudgetAccount) -> Task:
        return next(each for each in self._budgets if each.id == account.task_id)

    async def _apply(self, budget: Task, change: Callable[[BudgetAccount], Any]) -> Any:
        make = partial(BudgetAccount.of_task, budget)
        return await self._book.apply(self._store, budget.id, change, make, self._patiently)

    async def _warn(self, account: BudgetAccount, amounts: Sequence[str]) -> None:
        budget, charged = self._budget(account), account.charged()
        for name in amounts:
            message = (
                f"The budget of task {task_label(budget)}: {describe_amount(name, charged.get(name, 0))} of "
                f"{describe_amount(name, account.limits[name])} are spent."
            )
            data = {"amount": name, "limit": account.limits[name], "charged": charged.get(name, 0)}
            await self._report(EventType.BUDGET_WARNING, budget, message, data)

    async def _report_exceeded(self, short: _Tried) -> None:
        account, name = short.account, short.verdict.amount
        budget = self._budget(account)
        data = {"amount": name, "limits": account.limits, "charged": account.charged()}
        message = (
            f"The budget of task {task_label(budget)} has not enough {name} left for a call of task "
            f"{task_label(self._task)}, which waits until the budget is raised."
        )
        await self._report(EventType.BUDGET_EXCEEDED, budget, message, data)

    async def _report(self, kind: EventType, budget: Task, message: str, data: Json) -> None:
        """Store and publish an event of the task that has the budget, and log it."""
        log = current_log.get()
        if log is not None:
            log.add(message, logging.WARNING, ENGINE)
        event = TaskEvent(
            type=kind,
            task_id=budget.id,
            key=budget.key,
            root_task_id=budget.root_id,
            timestamp=utc_now(),
            message=message,
            data={"budget": budget.id, "by": self._task.id, **data},
        )
        move = Transition(budget.id, budget.root_id, {}, {}, (event,))
        try:
            result = await self._store.write(Change(moves=[move]))
        except ApflowError as error:
            logger.warning("An event of budget %s could not be stored: %s", budget.id, error)
            return
        if budget.root_id == self._task.root_id:
            self._context.publish_stored(result)
        else:
            bus_of(self._store).publish(*(each for events in result for each in events or ()))


class Above(NamedTuple):
    """What is above a task, across trees."""

    budgets: list[Task]  # the tasks whose budgets apply, outermost first; the task itself may be one
    top_id: str  # the root of the outermost tree


async def above(store: TaskStore, tasks: Mapping[str, Task], task: Task) -> Above:
    """Return what is above a task, across trees.

    Args:
        tasks: the tasks of the tree of the task, by id.
    """
    budgets: list[Task] = []
    known: Mapping[str, Task] = tasks
    current = task
    for _ in range(MAX_LEVELS):
        if current.policy.get("budget"):
            budgets.append(current)
        next_id = current.parent_id or current.spawned_by
        if next_id is None:
            break
        if current.parent_id is None:
            known = {}  # the tree that started this one is not in memory
        found = known.get(next_id) or (await store.get([next_id])).get(next_id)
        if found is None:  # it has been deleted
            break
        current = found
    return Above(budgets[::-1], current.root_id)


async def dead_calls(store: TaskStore, account: BudgetAccount) -> list[str]:
    """Return the calls of an account whose attempts have ended without settling them."""
    if not account.open:
        return []
    tasks = await store.get(list({call.task_id for call in account.open.values()}))
    return [
        call_id
        for call_id, call in account.open.items()
        if (task := tasks.get(call.task_id)) is None
        or task.status is not TaskStatus.IN_PROGRESS
        or task.attempt_number != call.attempt
    ]


async def _need_of(request: ModelRequest) -> Need:
    """Return what a call may use at most. Counting tokens may take a moment, so it is done in a thread."""
    may_shrink = request.max_output_tokens is None
    usual = request.usual_output_tokens or get_settings().budget_output_tokens
    most = usual if request.max_output_tokens is None else request.max_output_tokens

    def count() -> Need:
        tokens = request.input_tokens if isinstance(request.input_tokens, int) else request.input_tokens()
        if request.cost is None:
            return Need(tokens, most, None, None, may_shrink)
        of_input, of_output = request.cost(tokens, 0), request.cost(0, max(1, most))
        per_token = None if of_output is None else of_output / max(1, most)
        return Need(tokens, most, of_input, per_token, may_shrink)

    return count() if isinstance(request.input_tokens, int) else await asyncio.to_thread(count)


def _granted(call_id: str, request: ModelRequest, tried: Sequence[_Tried]) -> Reservation:
    limited = [each for each in tried if {"tokens", "usd"} & each.account.limits.keys()]
    most = min((each.verdict.output_tokens for each in limited), default=request.max_output_tokens)
    return Reservation(call_id, tuple(each.account.task_id for each in tried), most)
