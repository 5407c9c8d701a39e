"""Operations on budgets and on the usage of language models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from apflow.core.authoring.repository import TaskRepository
from apflow.core.engine.budget_book import book_of, read_account
from apflow.core.engine.model_calls import dead_calls
from apflow.core.errors import InvalidInputError
from apflow.core.model.budget import BudgetAccount
from apflow.core.model.task import Json, Task
from apflow.core.model.usage import GroupField, UsageQuery, UsageSum, UsageTotals, sum_up
from apflow.core.planning.child_trees import ids_of_children
from apflow.core.service.access import Access
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import Amount, OfUser, TaskId, Time, WholeAmount

GROUPS: Mapping[str, GroupField] = {"model": "model", "user": "user_id", "task": "task_id", "tree": "top_id"}


class BudgetService(Access):
    """What one caller may do with the budgets of its tasks."""

    async def budget(
        self,
        task_id: TaskId,
        *,
        usd: Annotated[Amount | None, Field(description="A new limit for US dollars.")] = None,
        tokens: Annotated[
            WholeAmount | None, Field(description="A new limit for tokens of prompts and answers.")
        ] = None,
        calls: Annotated[WholeAmount | None, Field(description="A new limit for calls of models.")] = None,
        seconds: Annotated[
            Amount | None, Field(description="A new limit for seconds of calls, added up.")
        ] = None,
        on_exceed: Annotated[
            Literal["fail", "wait"] | None,
            Field(description="What a call does that has no room: fail, or wait until the budget is raised."),
        ] = None,
    ) -> dict[str, Json]:
        """Return the budget of a task, with what is spent of it; change the limits that are given.

        A new limit applies at once, also while the task runs: calls that wait for the budget continue. A task
        without a budget gets one, unless a run of its tree is requested.

        Raises:
            InvalidInputError: the task has no budget, and no limit is given.
            ConflictError: the task has no budget, and a run of its tree is requested.
        """
        task = await self._task(task_id, with_tree=True)
        given: dict[str, float | None] = {"usd": usd, "tokens": tokens, "calls": calls, "seconds": seconds}
        limits = {name: value for name, value in given.items() if value is not None}
        if not task.policy.get("budget"):
            task = await self._with_budget(task, limits, on_exceed)
        elif limits or on_exceed:
            await change_limits(self.db, task, limits, on_exceed)
        state = await budget_state(self.db, task)
        assert state is not None  # the task has a budget
        return state

    async def _with_budget(self, task: Task, limits: dict[str, Any], on_exceed: str | None) -> Task:
        """Give a task a budget that it does not have."""
        if not limits:
            raise InvalidInputError(
                f"Task {task.id!r} has no budget. Give a limit: usd, tokens, calls or seconds."
            )
        budget = limits | ({"on_exceed": on_exceed} if on_exceed else {})
        policy = {**task.policy, "budget": budget}
        return await TaskRepository(self.db, author=self.author).update_fields(
            task.id, {"policy": policy}, by=self.user_id
        )

    async def usage(
        self,
        task_id: Annotated[
            str | None,
            Field(description="ID or path of a task: only calls of it and of everything below it."),
        ] = None,
        *,
        user_id: OfUser = None,
        since: Annotated[Time, Field(description="Only tasks with a call after this time.")] = None,
        group_by: Annotated[
            Literal["model", "user", "task", "tree"],
            Field(description="What to sum up separately; a tree includes those that its tasks started."),
        ] = "model",
    ) -> dict[str, Json]:
        """Sum up what the calls of language models used: tokens, US dollars and seconds.

        Calls of tasks that failed or were cancelled count, too, and so do those of tasks that were deleted.
        """
        group = GROUPS[group_by]
        query = UsageQuery(user_id=self._whose(user_id), since=since, group_by=(group,))
        queries = [query] if task_id is None else await self._below(task_id, query)
        found = [each for query in queries for each in await self.db.usage(query)]
        groups = sum_up(found, (group,))
        total = sum((each.totals for each in groups), UsageTotals())
        return {"total": total.to_dict(), "groups": [_group(each, group_by) for each in groups]}

    async def _below(self, task_id: str, query: UsageQuery) -> list[UsageQuery]:
        """Return the queries of the usage of a task and everything below it, across trees."""
        task = await self._task(task_id, with_tree=True)
        if task.id == task.root_id and task.spawned_by is None:
            return [replace(query, top_ids=[task.id])]
        tasks = subtree(await self.db.existing_tree(task.root_id, task.id), task.id)
        queries = [replace(query, task_ids=[each.id for each in tasks])]
        roots = await nested_roots(self.db, tasks)
        return [*queries, replace(query, root_ids=roots)] if roots else queries


def subtree(tasks: Sequence[Task], task_id: str) -> list[Task]:
    """Return a task and its descendants."""
    children: dict[str | None, list[Task]] = {}
    for each in tasks:
        children.setdefault(each.parent_id, []).append(each)
    found = [each for each in tasks if each.id == task_id]
    for task in found:  # grows
        found += children.get(task.id, ())
    return found


async def nested_roots(store: TaskStore, tasks: Sequence[Task]) -> list[str]:
    """Return the roots of the trees that tasks have started, and of those inside of these."""
    found = ids_of_children(tasks)
    seen = set(found)
    for root_id in found:  # grows
        new = [each for each in ids_of_children(await store.tree(root_id)) if each not in seen]
        seen.update(new)
        found += new
    return found


async def change_limits(store: TaskStore, task: Task, limits: dict[str, Any], on_exceed: str | None) -> None:
    """Change the limits of a task's budget, durably."""

    def change(account: BudgetAccount) -> None:
        account.follow(task)
        account.set_limits(limits, on_exceed, get_settings().budget_warning_share)

    make = partial(BudgetAccount.of_task, task)
    await book_of(store).apply(store, task.id, change, make, _once)


async def budget_state(store: TaskStore, task: Task) -> dict[str, Json] | None:
    """Return the budget of a task with what is spent of it; None if it has no budget."""
    if not task.policy.get("budget"):
        return None
    record = await read_account(store, task.id)
    account = BudgetAccount.of_task(task) if record is None else BudgetAccount.from_json(record.value)
    account.follow(task)
    return account.to_dict(await dead_calls(store, account))


async def usage_of(store: TaskStore, task: Task) -> dict[str, Json] | None:
    """Return what the calls of models of a task used, in total and by model; None if there were none.

    For the root of a tree, these are the calls of all of its tasks, and of the trees that they started.
    """
    if not task.attempts and not task.attempt_number and not task.has_children:
        return None
    query = UsageQuery(group_by=("model",))
    if task.id != task.root_id:
        query = replace(query, task_ids=[task.id])
    elif task.spawned_by is None:
        query = replace(query, top_ids=[task.id])
    else:
        query = replace(query, root_ids=[task.id])
    found = await store.usage(query)
    if not found:
        return None
    total = sum((each.totals for each in found), UsageTotals())
    return total.to_dict() | {"by_model": {str(each.model): each.totals.to_dict() for each in found}}


def _group(found: UsageSum, group_by: str) -> dict[str, Json]:
    shown = found.to_dict((GROUPS[group_by],))
    return {"tree_id" if name == "top_id" else name: value for name, value in shown.items()}


async def _once(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()
