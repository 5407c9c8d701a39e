"""Explains in words why a task has its status, and what the user can do.

Pure: the explanation depends only on the tasks of the tree and on the arguments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from apflow.core.model.for_each import ForEach, has_for_each
from apflow.core.model.limit import Limit, LimitAccount, describe_limit
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Json, Task, has_own_key, utc_now
from apflow.core.model.tree import error_type, tree_status
from apflow.core.model.tree_index import TreeIndex
from apflow.core.planning.deadline import deadline_of
from apflow.core.planning.outcome import NOTHING_FAILED

SHOWN = 5  # tasks named in one sentence


@dataclass
class Explanation:
    """Reasons, the most direct one first, and suggested commands."""

    reasons: list[str] = field(default_factory=list[str])
    advice: list[str] = field(default_factory=list[str])


def explain(
    tasks: Sequence[Task],
    task_id: str,
    *,
    is_driven: bool,
    is_known: Callable[[str], bool],
    refusals: Sequence[str] = (),
    trees: Sequence[Sequence[Task]] = (),
    is_left_to_parent: bool = False,
    limit: LimitAccount | None = None,
    now: datetime | None = None,
    approval: str | None = None,
    call: str | None = None,
) -> Explanation:
    """Explain why a task of a tree has its status.

    Args:
        tasks: the whole tree.
        task_id: the task to explain.
        is_driven: whether a live owner runs the tree.
        is_known: returns whether this process knows an executor id.
        refusals: reasons why the task may not use a secret that it names.
        trees: the trees that the task has started.
        is_left_to_parent: whether the task that started this tree will continue it.
        limit: who uses the limit of the task; None: no task uses it, or there is no limit.
        now: the time for which to explain; None: the present moment.
        approval: a sentence about the approval that the task waits for; None: it waits for none.
        call: a sentence about the call of the executor, if another process makes it or it waits.
    """
    question = _Question(tasks, task_id, is_driven, is_known, refusals)
    question.trees, question.is_left_to_parent = trees, is_left_to_parent
    question.account, question.now = limit or LimitAccount(), now or utc_now()
    question.approval, question.call = approval, call
    return question.answer()


class _Question:
    """One task in its tree, and the reasons found so far."""

    def __init__(
        self,
        tasks: Sequence[Task],
        task_id: str,
        is_driven: bool,
        is_known: Callable[[str], bool],
        refusals: Sequence[str],
    ) -> None:
        self.index = TreeIndex(tasks)
        self.task = self.index.by_id[task_id]
        self.root = self.index.by_id[self.task.root_id]
        self.is_driven = is_driven
        self.is_known = is_known
        self.refusals = refusals
        self.found = Explanation()
        self.trees: Sequence[Sequence[Task]] = ()
        self.is_left_to_parent = False
        self.account = LimitAccount()
        self.now = utc_now()
        self.approval: str | None = None
        self.call: str | None = None

    def answer(self) -> Explanation:
        if self.approval is not None:
            self._say(self.approval, f"apflow approvals show {self.task.id}")
        if self.task.status == TaskStatus.PENDING:
            self._pending()
        elif TaskStatus.is_active(self.task.status):
            self._active()
        else:
            self._ended()
        if self.task.spawned_by is not None:
            self._say(
                f"Task {self.task.spawned_by} started its tree.", f"apflow tasks why {self.task.spawned_by}"
            )
        return self.found

    def _say(self, reason: str, *advice: str) -> None:
        self.found.reasons.append(reason)
        self.found.advice.extend(each for each in advice if each not in self.found.advice)

    def _ended(self) -> None:
        kind = error_type(self.task)
        if self.task.status == TaskStatus.COMPLETED:
            self._say("It completed.")
            if self.task.cached_from is not None:
                self._say(
                    f"Its executor was not called: task {self.task.cached_from} had done the same before.",
                    f"apflow tasks get {self.task.cached_from}",
                )
            return
        if self.task.status == TaskStatus.SKIPPED:
            self._skipped()
            return
        said = self.task.error or "no error was stored"
        self._say(f"It {'was cancelled' if self.task.status == TaskStatus.CANCELLED else 'failed'}: {said}")
        if kind is not None and kind not in said:
            self._say(f"The kind of error is {kind}.")
        if self.task.attempts > 1:
            self._say(f"It was tried {self.task.attempts} times.")
        if kind == "ExecutorNotFound":
            self._say_unknown()
        self._say("Executing it again keeps what has completed.", f"apflow tasks execute {self.task.id}")

    def _skipped(self) -> None:
        self._say(f"It was skipped: {self.task.error or 'no reason was stored'}")
        stored = cast("dict[str, Json]", self.task.result or {})
        cause = self.index.by_id.get(stored.get("skipped_task_id") or "")
        if cause is not None:
            self._say(f"{_label(cause)}: {cause.error}", f"apflow tasks why {cause.id}")
            self._say("With `trigger: unless_failed` it runs even if what it needs is skipped.")
        elif stored.get("reason") == NOTHING_FAILED:
            self._say("Its trigger is on_failure: it runs only if something that it depends on fails.")
        else:
            self._say("Executing it again decides again.", f"apflow tasks execute {self.task.id}")

    def _active(self) -> None:
        if self.task.cancel_requested_at is not None:
            self._say("Its cancellation is requested; it ends as cancelled when its code has ended.")
        if self.task.not_before is not None:
            self._say(
                f"It waits for attempt {self.task.attempts + 1}, at {self.task.not_before:%H:%M:%S} UTC."
            )
        elif has_for_each(self.task):
            self._say_elements()
        elif self.task.executor == GROUP:
            self._say(f"It is a group and waits for what is in it: {self._below()}.")
        elif self.is_driven and self.call is not None:
            self._say(self.call, "apflow workers")
        elif self.is_driven and self.approval is None:
            self._say(f"It is running, attempt {self.task.attempts}.")
        if self.task.id in self.account.held:
            self._say(f"It holds a place of the limit {describe_limit(self.task.policy['limit'])}.")
        elif self.task.not_before is not None and self.is_driven:
            self._say_late_retry()
        self._say_deadline()
        self._say_trees()
        self._say_abandoned()

    def _say_deadline(self) -> None:
        deadline = deadline_of(self.root)
        if deadline is not None:
            self._say(f"It fails if its tree has not ended by {deadline.at:%Y-%m-%d %H:%M:%S} UTC.")

    def _say_elements(self) -> None:
        """Count the elements of the list by how they ended."""
        elements = [self.index.by_id[each] for each in self.index.children.get(self.task.id, ())]
        states = Counter(each.status for each in elements)
        ended = sum(count for status, count in states.items() if TaskStatus.is_terminal(status))
        parts = [f"{states[each]:,} {each.replace('_', ' ')}" for each in TaskStatus if states[each]]
        shown = f" ({', '.join(parts)})" if parts else ""
        self._say(f"{ended:,} of the {len(elements):,} elements of its list have ended{shown}.")
        failed = [each for each in elements if each.status == TaskStatus.FAILED]
        for_each = ForEach.of(self.task)
        if failed and for_each is not None:
            self._say(f"{for_each.allowed(len(elements)):,} may fail. Failed: {_named(failed)}.")

    def _say_held_back(self) -> None:
        """Name the limit of elements in progress, if the task is an element and there is one."""
        parent = self.index.by_id.get(self.task.parent_id or "")
        limit = None if parent is None else parent.policy.get("for_each", {}).get("max_parallel")
        if parent is not None and limit is not None:
            self._say(
                f"At most {limit:,} elements of {_label(parent)} are in progress at once (max_parallel)."
            )

    def _say_trees(self) -> None:
        for tree in self.trees:
            summary = tree_status(tree)
            ended = sum(TaskStatus.is_terminal(task.status) for task in tree)
            root = next(task for task in tree if task.id == task.root_id)
            counted = f"{ended} of {len(tree)} tasks have ended"
            if TaskStatus.is_terminal(summary.status):
                self._say(f"The tree {root.name!r} ({root.id}), which it started, is {summary.status}.")
            else:
                self._say(
                    f"It waits for the tree {root.name!r} ({root.id}), which it started: {counted}.",
                    f"apflow tasks why {root.id}",
                )

    def _pending(self) -> None:
        if self.root.run_requested_at is None:
            self._say("No run of its tree is requested.", f"apflow tasks execute {self.root.id}")
        elif not self._is_in_scope():
            self._say("The requested run leaves it out.", f"apflow tasks execute {self.task.id}")
        waits_for = self._waits_for()
        if waits_for:
            self._say(f"It waits for {_named(waits_for)}.")
        self._say_what_follows()
        if self.task.not_before is not None:
            self._say(f"It waits for its retry, not before {self.task.not_before:%H:%M:%S} UTC.")
        wanted = self._executor()
        if wanted is not None and not self.is_known(wanted):
            self._say_unknown()
        for refusal in self.refusals:
            self._say(f"It will fail when it starts. {refusal}")
        if self.root.run_requested_at is not None:
            if self.is_driven and not waits_for and not self._say_limit():
                self._say("It is ready and waits for a free slot.")
                self._say_held_back()
            self._say_deadline()
            self._say_abandoned()

    def _say_limit(self) -> bool:
        """Explain that the task waits for its limit, and who holds it; return False if there is room."""
        limit, now = Limit.of_task(self.task), self.now.timestamp()
        if limit is None:
            return False
        account = self.account
        room = account.room([limit.rule], now)
        if room.free > len(account.line):
            return False
        described = describe_limit(self.task.policy["limit"])
        self._say(f"It is ready and waits for the limit {described}.")
        if account.held:
            held = list(account.held)
            self._say(
                f"{len(held)} tasks hold places: {self._holders(held)}."
                if len(held) > 1
                else f"Task {self._holders(held)} holds a place.",
                *(f"apflow tasks why {each}" for each in held[:1]),
            )
        if limit.rule.seconds is not None:
            count = account.starts_within(limit.rule.seconds, now)
            at = (
                ""
                if room.seconds is None
                else (f"; the next may start at {self.now + timedelta(seconds=room.seconds):%H:%M:%S} UTC")
            )
            self._say(f"{count} tasks started in the last {limit.rule.seconds:g} s{at}.")
        if any(rule != limit.rule for rule in account.rules()):
            self._say("Other tasks give this key another limit: each start obeys all of them.")
        return True

    def _say_late_retry(self) -> None:
        """Explain what a task waits for whose next attempt is due."""
        if self.task.not_before is not None and self.task.not_before <= self.now:
            self._say_limit()

    def _holders(self, task_ids: Sequence[str]) -> str:
        shown = ", ".join(
            f"{_label(self.index.by_id[each])} ({each})" if each in self.index.by_id else each
            for each in task_ids[:SHOWN]
        )
        return shown + (f" and {len(task_ids) - SHOWN} more" if len(task_ids) > SHOWN else "")

    def _say_what_follows(self) -> None:
        """Add what the task does when it no longer waits."""
        if self.task.policy.get("when"):
            self._say(f"It is skipped if its condition is false then: {self.task.policy['when']}")
        if has_for_each(self.task) and self.task.id not in self.index.children:
            self._say("The elements of its list are created when it starts.")

    def _is_in_scope(self) -> bool:
        """Return whether the requested run includes the task, or created it."""
        scope = self.root.run_scope
        above = (self.index.by_id[each] for each in self.index.ancestors(self.task.id))
        return (
            scope is None
            or self.task.id in scope
            or any(has_for_each(each) and each.id in scope for each in above)
        )

    def _waits_for(self) -> list[Task]:
        needed = (self.index.by_id.get(each["id"]) for each in self.task.dependencies)
        return [each for each in needed if each is not None and not TaskStatus.is_terminal(each.status)]

    def _executor(self) -> str | None:
        """Return the id of the executor, stored or still to be chosen; None for a group."""
        if has_for_each(self.task):
            return None
        if self.task.executor is not None:
            return None if self.task.executor == GROUP else self.task.executor
        named = self.task.params.get("executor_id") or self.task.schemas.get("method")
        if named is None and self.task.id in self.index.children and not self.is_known(self.task.name):
            return None
        return str(named or self.task.name)

    def _say_unknown(self) -> None:
        self._say(
            f"No executor {self._executor()!r} is known here.",
            "apflow executors list",
            f"apflow tasks execute {self.task.id} --import MODULE",
        )

    def _say_abandoned(self) -> None:
        if self.is_driven or self.root.run_requested_at is None:
            return
        if self.is_left_to_parent:
            self._say("Its tree continues when the task that started it does.")
        else:
            self._say(
                "No process runs its tree now: its last one ended early.",
                f"apflow tasks resume {self.root.id}",
            )

    def _below(self) -> str:
        open_ones = [self.index.by_id[each] for each in self.index.subtree(self.task.id)[1:]]
        return _named([each for each in open_ones if not TaskStatus.is_terminal(each.status)])


def _named(tasks: Sequence[Task]) -> str:
    shown = ", ".join(f"{_label(each)} ({each.status})" for each in tasks[:SHOWN])
    return (
        shown + (f" and {len(tasks) - SHOWN} more" if len(tasks) > SHOWN else "")
        if tasks
        else "nothing any more"
    )


def _label(task: Task) -> str:
    """Return the name of a task, with its key if that says more."""
    return f"{task.name!r}, {task.key!r}" if has_own_key(task) else repr(task.name)
