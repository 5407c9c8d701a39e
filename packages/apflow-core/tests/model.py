"""A naive model of how a tree of tasks runs, to compare the engine with, and trees to try it on.

It shares nothing with `Plan`: it looks at every task again after each step, until nothing changes. Tasks
run one at a time in order of `(priority, position)`, so with a cancellation the engine must run with
`max_concurrency=1`; without one the final states do not depend on the order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

AFTER_ANY_END = ("on_failure", "always")
ENDED = ("completed", "failed", "cancelled", "skipped")
# How an approval is decided: by people, or by default when its time is over; "raced": by the first
# of two: people, who reject, or the default, which approves.
DECIDED_LATE = {
    "approved_late": "approve",
    "rejected_late": "reject",
    "failed_late": "fail",
    "raced": "approve",
}
REFUSALS = {
    "rejected": "ApprovalRejected", "rejected_late": "ApprovalRejected", "failed_late": "ApprovalTimeout",
}  # fmt: skip
DECISIONS = ("approved", "rejected", *DECIDED_LATE)


@dataclass(frozen=True)
class Scripted:
    """One task. `script` says how each attempt ends ("completed", "failed", "cancelled"); None: a group."""

    id: str
    parent: str | None
    needs: tuple[tuple[str, bool], ...] = ()  # (id, required)
    script: tuple[str, ...] | None = ("completed",)
    priority: int = 2
    max_attempts: int = 1
    effect: str = "idempotent"
    # A condition on a task that this one needs: "false", "invalid", or "completed" (it completed).
    when: tuple[str, str] | None = None
    trigger: str = "on_success"
    # Of a task with `for_each`, which is a group: the script of each of its elements.
    each: tuple[tuple[str, ...], ...] | None = None
    allow_failures: int = 0
    max_parallel: int | None = None
    approval: str | None = (
        None  # how the approval is decided that each execution asks for, one of `DECISIONS`
    )

    def elements(self) -> list[Scripted]:
        """The tasks that it creates when it starts."""
        return [
            replace(self, id=f"{self.id}[{at}]", parent=self.id, needs=(), script=script, each=None,
                    when=None, trigger="on_success")
            for at, script in enumerate(self.each or ())
        ]  # fmt: skip

    @property
    def expression(self) -> str | None:
        """The condition as JMESPath."""
        if self.when is None:
            return None
        kind, need = self.when
        return {"false": "`false`", "invalid": need, "completed": f"{need} != `null`"}[kind]

    @property
    def allowed_attempts(self) -> int:
        return 1 if self.effect == "once" else self.max_attempts


@dataclass(frozen=True)
class Scenario:
    """A tree, root first, in order of position; perhaps a cancellation, or a deadline, while a task runs."""

    tasks: tuple[Scripted, ...]
    cancel: tuple[str, str] | None = None  # (called by the first attempt of this task, on that task)
    hangs: str | None = None  # the deadline of the tree passes while the first attempt of this task runs
    decided: Mapping[str, str] = field(default_factory=dict[str, str])  # by task: the decision of a race


@dataclass
class Expected:
    """How the tree ends."""

    status: dict[str, str]
    attempts: dict[str, int]
    error_type: dict[str, str] = field(default_factory=dict[str, str])  # of what failed without a call
    cancel_requested: set[str] = field(default_factory=set[str])
    tree_status: str = ""
    tolerated: set[str] = field(default_factory=set[str])
    # A task needs both a failed and a cancelled one: which of them came first decides what it becomes.
    hangs_on_order: bool = False
    progress: float = 1.0  # a finished tree has nothing open
    asked: set[str] = field(default_factory=set[str])  # for an approval


def expect(scenario: Scenario) -> Expected:
    """Return how a tree without cycles ends."""
    return _Model(scenario).run()


class _Model:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.tasks = {task.id: task for task in scenario.tasks}
        self.out = Expected(dict.fromkeys(self.tasks, "pending"), dict.fromkeys(self.tasks, 0))
        self.status = self.out.status
        self.started: set[str] = set()
        self.decided: set[str] = set()  # whose conditions are evaluated
        self.created: list[Scripted] = []  # elements

    def run(self) -> Expected:
        self.settle()
        while ready := [
            task for task in self.tasks.values() if task.script is not None and self.may_start(task)
        ]:
            self.call(min(ready, key=lambda task: task.priority))  # min keeps the order of position
            self.settle()
        assert all(status in ENDED for status in self.status.values()), "the tree has a cycle"
        root = self.scenario.tasks[0].id
        self.out.tree_status = self.sum_up(self.tasks, is_cancelled=root in self.out.cancel_requested)
        self.out.tolerated = {each for each in self.uncounted() if self.status[each] == "failed"}
        self.out.hangs_on_order = any(
            {self.status[need] for need, required in task.needs if required} >= {"failed", "cancelled"}
            for task in self.tasks.values()
        )
        return self.out

    def call(self, task: Scripted) -> None:
        """Run a task to the end of its last attempt."""
        assert task.script is not None
        self.status[task.id] = "in_progress"
        self.started.add(task.id)
        self.out.attempts[task.id] = 1
        caller, target = self.scenario.cancel or (None, "")
        if caller == task.id and task.id in self.cancel(target):
            self.status[task.id] = "cancelled"
            return
        if task.id == self.scenario.hangs:
            self.expire(task.id)
            return
        if task.approval is not None and not self.approve(task.id, task.approval):
            return
        for attempt in range(1, 1 + task.allowed_attempts):
            self.out.attempts[task.id] = attempt
            self.status[task.id] = task.script[min(attempt, len(task.script)) - 1]
            if self.status[task.id] != "failed":
                return

    def approve(self, task_id: str, approval: str) -> bool:
        """Ask for an approval; return whether it is given. A refusal fails the task without retries."""
        self.out.asked.add(task_id)
        decision = self.scenario.decided.get(task_id, approval)
        if decision not in REFUSALS:
            return True
        self.status[task_id] = "failed"
        self.out.error_type[task_id] = REFUSALS[decision]
        return False

    def cancel(self, target: str) -> list[str]:
        """Cancel what is open from a task on down, except what cleans up; return it."""
        still_open = [each for each in self.below(target) if self.status[each] not in ENDED]
        kept = self.cleaning(target, still_open)
        if all(each in kept or each in self.out.cancel_requested for each in still_open):
            kept = set()  # they alone are left
        left = [each for each in still_open if each not in kept]
        self.out.cancel_requested.update([target, *left] if left else [])
        for each in left:
            if self.status[each] == "pending":
                self.status[each] = "cancelled"
        self.settle()
        return left

    def expire(self, hanging: str) -> None:
        """Make the deadline pass and, if the task that runs cleans up, the time for that, too."""
        later = [task for task in self.tasks.values() if task.needs and task.trigger in AFTER_ANY_END]
        groups = [self.below(task.id) for task in later if task.script is None]
        self.fail_open({task.id for task in later}.union(*groups))
        self.settle()
        if self.status[hanging] == "in_progress":
            self.fail_open(set())

    def fail_open(self, kept: set[str]) -> None:
        """Fail all that has not ended, except started groups and some tasks."""
        for task in self.tasks.values():
            is_started_group = task.script is None and self.status[task.id] == "in_progress"
            if self.status[task.id] not in ENDED and task.id not in kept and not is_started_group:
                self.status[task.id] = "failed"
                self.out.error_type[task.id] = "DeadlineExceeded"

    def cleaning(self, target: str, still_open: list[str]) -> set[str]:
        """Return the `always` tasks among some that have started, or that follow one that has."""
        kept: set[str] = set()
        while True:
            more = {
                each
                for each in still_open
                if self.tasks[each].trigger == "always" and each not in kept and each != target
                and (
                    self.status[each] == "in_progress"
                    or any(need in self.started or need in kept for need, _ in self.tasks[each].needs)
                )
            }  # fmt: skip
            if not more:
                return kept
            kept |= more

    def settle(self) -> None:
        """Let everything follow that follows without a call: failures first, then groups."""
        while self.spread() or any(
            self.move_group(task) for task in list(self.tasks.values()) if task.script is None
        ):
            pass

    def spread(self) -> bool:
        return self.fail_dependents() or self.skip()

    def skip(self) -> bool:
        """Skip one task that needs a skipped one, or end one by its condition; say whether there was one."""
        for task in self.tasks.values():
            if self.status[task.id] != "pending" or not all(
                self.is_over(task, need) for need, _ in task.needs
            ):
                continue
            if any(required and self.status[need] == "skipped" for need, required in task.needs) and (
                task.trigger == "on_success"
            ):
                self.status[task.id] = "skipped"
                return True
            if task.trigger == "on_failure" and not any(
                self.status[need] == "failed" for need, _ in task.needs
            ):
                self.status[task.id] = "skipped"
                return True
            if task.when is not None and task.id not in self.decided and self.decide(task, *task.when):
                return True
        return False

    def decide(self, task: Scripted, kind: str, need: str) -> bool:
        """Evaluate a condition; say whether it ends the task."""
        self.decided.add(task.id)
        if kind == "invalid":
            self.status[task.id] = "failed"
            self.out.error_type[task.id] = "ConditionInvalid"
        elif kind == "false" or self.status[need] != "completed":
            self.status[task.id] = "skipped"
        return self.status[task.id] != "pending"

    def fail_dependents(self) -> bool:
        for task in self.tasks.values():
            if self.status[task.id] != "pending" or task.trigger in AFTER_ANY_END:
                continue
            for need, required in task.needs:
                if required and self.status[need] in ("failed", "cancelled"):
                    self.status[task.id] = self.status[need]
                    if self.status[need] == "failed":
                        self.out.error_type[task.id] = "DependencyFailed"
                    return True
        return False

    def move_group(self, group: Scripted) -> bool:
        """Start a group, or end it when all in it has ended; say whether anything changed."""
        if self.may_start(group):
            self.status[group.id] = "in_progress"
            self.started.add(group.id)
            for element in group.elements():
                self.tasks[element.id] = element
                self.created.append(element)
                self.status[element.id], self.out.attempts[element.id] = "pending", 0
            return True
        inner = self.below(group.id)[1:]
        if self.status[group.id] != "in_progress" or any(self.status[each] not in ENDED for each in inner):
            return False
        failures = [each for each in inner if self.status[each] == "failed"]
        if group.each is not None and len(failures) <= group.allow_failures:
            inner = [each for each in inner if each not in failures]
        self.status[group.id] = self.sum_up(inner, is_cancelled=group.id in self.out.cancel_requested)
        if self.status[group.id] == "failed":
            self.out.error_type[group.id] = "ChildFailed"
        return True

    def may_start(self, task: Scripted) -> bool:
        return self.status[task.id] == "pending" and all(self.is_over(task, need) for need, _ in task.needs)

    def is_over(self, task: Scripted, need: str) -> bool:
        """Return whether a task does not wait for another one any more; failures have spread before."""
        if self.status[need] == "in_progress":
            return self.tasks[need].script is None and task.id in self.below(need)
        return self.status[need] in ENDED

    def tolerated(self) -> set[str]:
        found: set[str] = set()
        while True:
            more = {each for each in self.tasks if each not in found and self.is_tolerated(each, found)}
            if not more:
                return found
            found |= more

    def is_tolerated(self, task_id: str, found: set[str]) -> bool:
        dependents = [
            (task.id, required)
            for task in self.tasks.values()
            for need, required in task.needs
            if need == task_id and not (required and task.trigger in AFTER_ANY_END)
        ]
        is_forgiven = all(not required or each in found for each, required in dependents)
        return self.status[task_id] == "failed" and bool(dependents) and is_forgiven

    def uncounted(self, among: Collection[str] = ()) -> set[str]:
        """Return the tolerated failures, and what lies inside those that are groups (of some tasks only)."""
        found = self.tolerated()
        groups = [each for each in found if self.tasks[each].script is None and (not among or each in among)]
        groups += [
            each for each, task in self.tasks.items()
            if task.each is not None and self.status[each] == "completed" and (not among or each in among)
        ]  # fmt: skip
        return found.union(*(self.below(group) for group in groups))

    def sum_up(self, among: Collection[str], *, is_cancelled: bool) -> str:
        """Return what the ends of some tasks, less those that do not count, amount to."""
        uncounted = self.uncounted(among)
        ends = (
            {"cancelled"} if is_cancelled else {self.status[each] for each in among if each not in uncounted}
        )
        return next((each for each in ("failed", "cancelled") if each in ends), "completed")

    def below(self, top: str) -> list[str]:
        found = below(self.scenario, top)
        return found + [task.id for task in self.created if task.parent in found or task.id == top]


def below(scenario: Scenario, top: str) -> list[str]:
    """Return a task and all below it."""
    found = [top]
    for task in scenario.tasks:  # parents precede their children
        if task.parent in found:
            found.append(task.id)
    return found


# --- trees to try ----------------------------------------------------------------------------------


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    max_size: int = 10,
    with_cancel: bool = False,
    with_deadline: bool = False,
    with_always: bool = True,
    with_approvals: bool = False,
    may_have_cycles: bool = False,
) -> Scenario:
    """Trees without cycles: groups and parents that run, required and optional dependencies, retries.

    With `with_cancel`: no retries, answers "cancelled" too, and perhaps a cancellation out of a task.
    """
    size = draw(st.integers(1, max_size))
    parents = [None, *(draw(st.integers(0, number - 1)) for number in range(1, size))]
    tasks = [draw(_tasks(number, parents, with_cancel or with_deadline)) for number in range(size)]
    numbers = st.integers(0, size - 1)
    wanted = draw(st.lists(st.tuples(numbers, numbers, st.booleans()), max_size=2 * size))
    for number, need, required in wanted:
        task = tasks[number]
        if need == number or any(f"t{need}" == known for known, _ in task.needs):
            continue
        tasks[number] = replace(task, needs=(*task.needs, (f"t{need}", required)))
        if not may_have_cycles and not is_free_of_cycles(tasks):
            tasks[number] = task
    for number, task in enumerate(tasks):
        if task.needs and draw(st.booleans()):
            kinds = st.sampled_from(["completed", "completed", "completed", "false", "invalid"])
            when = draw(kinds), draw(st.sampled_from(task.needs))[0]
            tasks[number] = replace(task, when=when)
    lists = 0
    for number, task in enumerate(tasks):
        # With a cancellation at most one, and none beside conditions: the order in which lists are expanded
        # and conditions are evaluated would decide. With a deadline none: an empty list may end before.
        decides = with_deadline or (with_cancel and (lists or any(each.when for each in tasks)))
        if number not in parents and not decides and draw(st.integers(0, 3)) == 0:
            lists += 1
            tasks[number] = draw(_with_list(task, with_cancel))
    if not with_always:
        tasks = [replace(task, trigger="on_failure") if task.trigger == "always" else task for task in tasks]
    if with_approvals:
        decisions = st.none() | st.sampled_from(DECISIONS)
        tasks = [
            task if task.script is None and task.each is None else replace(task, approval=draw(decisions))
            for task in tasks
        ]
    callers = [task.id for task in tasks if task.script is not None]
    targets = st.integers(0, size - 1).map(lambda number: f"t{number}")
    cancel = st.tuples(st.sampled_from(callers), targets) if with_cancel and callers else st.none()
    hangs = draw(st.sampled_from(callers)) if with_deadline and callers else None
    return Scenario(tuple(tasks), draw(st.none() | cancel), hangs)


@st.composite
def _tasks(draw: st.DrawFn, number: int, parents: list[int | None], with_cancel: bool) -> Scripted:
    parent = parents[number]
    ends = st.sampled_from(["completed", "completed", "failed", *(["cancelled"] if with_cancel else [])])
    script = draw(st.lists(ends, min_size=1, max_size=1 if with_cancel else 3))
    return Scripted(
        f"t{number}",
        None if parent is None else f"t{parent}",
        script=None if number in parents and draw(st.booleans()) else tuple(script),
        priority=draw(st.integers(0, 3)),
        max_attempts=1 if with_cancel else draw(st.integers(1, 3)),
        effect=draw(st.sampled_from(["idempotent", "idempotent", "once"])),
        trigger=draw(st.sampled_from(["on_success", "on_success", "unless_failed", "on_failure", "always"])),
    )


@st.composite
def _with_list(draw: st.DrawFn, task: Scripted, with_cancel: bool) -> Scripted:
    """Return a task with `for_each`."""
    ends = st.sampled_from(["completed", "completed", "failed", *(["cancelled"] if with_cancel else [])])
    scripts = st.lists(ends, min_size=1, max_size=1 if with_cancel else 3).map(tuple)
    return replace(
        task,
        script=None,
        each=tuple(draw(st.lists(scripts, max_size=4))),
        allow_failures=draw(st.integers(0, 2)),
        max_parallel=draw(st.none() | st.integers(1, 3)),
    )


def is_free_of_cycles(tasks: Sequence[Scripted]) -> bool:
    """Return whether the tree can finish: a task inside a group may need its start, others need ends."""
    model = _Model(Scenario(tuple(tasks)))
    waits = {(task.id, "start"): set(_causes(model, task)) for task in tasks}
    for task in tasks:
        inner = model.below(task.id)[1:] if task.script is None else []
        waits[task.id, "end"] = {(task.id, "start"), *((each, "end") for each in inner)}
    while free := [moment for moment, causes in waits.items() if not causes & waits.keys()]:
        for moment in free:
            del waits[moment]
    return not waits


def _causes(model: _Model, task: Scripted) -> Iterator[tuple[str, str]]:
    for need, _ in task.needs:
        is_holder = model.tasks[need].script is None and need != task.id and task.id in model.below(need)
        yield need, "start" if is_holder else "end"
