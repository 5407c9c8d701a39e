"""The planner against a naive model of the rules, on trees that hypothesis makes up."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from model import Expected, Scenario, Scripted, expect, is_free_of_cycles, scenarios

from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import GROUP, Task, utc_now
from apflow.core.model.tree import tree_status
from apflow.core.model.tree_index import children_by_parent, subtree
from apflow.core.planning.cleanup import left_by_cancellation
from apflow.core.planning.deadlock import find_deadlock
from apflow.core.planning.decision import evaluate
from apflow.core.planning.fan_out import FanOutLimits, collect, expand
from apflow.core.planning.plan import Plan

LIMITS = FanOutLimits()


def stored(scenario: Scenario) -> list[Task]:
    return [
        Task(
            id=task.id,
            name=task.id,
            root_id="t0",
            parent_id=task.parent,
            priority=task.priority,
            position=position,
            dependencies=[{"id": need, "required": required} for need, required in task.needs],
            executor=GROUP if task.script is None else "scripted",
            params={} if task.each is None else {"executor_id": "scripted"},
            policy={"trigger": task.trigger}
            | ({"when": task.expression} if task.when else {})
            | ({} if task.each is None else {"for_each": list_of(task)}),
            result={},
        )
        for position, task in enumerate(scenario.tasks)
    ]


def list_of(task: Scripted) -> dict[str, Any]:
    limit = {} if task.max_parallel is None else {"max_parallel": task.max_parallel}
    return {"items": list(task.each or ()), "allow_failures": task.allow_failures, **limit}


class Driver:
    """Drives a plan as a run does, with scripted outcomes."""

    def __init__(self, scenario: Scenario, width: int) -> None:
        self.scenario, self.width = scenario, width
        self.tasks = stored(scenario)
        self.by_id = {task.id: task for task in self.tasks}
        self.scripts = {task.id: task for task in scenario.tasks}
        self.plan = Plan(self.tasks)
        self.running: list[str] = []

    def run(self) -> list[Task]:
        self.take()
        while self.running:
            self.end(self.running.pop(0))
            self.take()
        assert self.plan.is_done
        return self.tasks

    def take(self) -> None:
        self.take_derived()
        while self.plan.undecided:
            self.decide()
            self.take_derived()
        for task_id in self.plan.take_ready(self.width - len(self.running)):
            self.by_id[task_id].status = TaskStatus.IN_PROGRESS
            self.by_id[task_id].started_at = utc_now()
            self.running.append(task_id)

    def take_derived(self) -> None:
        for ruling in self.plan.take_derived():
            if self.by_id[ruling.task_id].status in TERMINAL:
                # Between two cancelled tasks the plan saw a group start. A run's write is refused then,
                # and it plans again from the stored tasks.
                self.plan = Plan(self.tasks)
                self.take_derived()
                return
            self.by_id[ruling.task_id].status = ruling.status
            if ruling.status is TaskStatus.IN_PROGRESS:
                self.by_id[ruling.task_id].started_at = utc_now()

    def decide(self) -> None:
        task = self.by_id[self.plan.undecided.popleft()]
        node = self.plan.nodes[task.id]
        if node.status is TaskStatus.IN_PROGRESS:
            outcome = collect(task, self.by_id, children_by_parent(self.tasks), LIMITS)
            self.finish(task.id, outcome.status)
        elif node.status is TaskStatus.PENDING and not node.is_undecided:
            self.expand(task)
        elif node.status is TaskStatus.PENDING:
            outcome, _ = evaluate(task, self.by_id)
            if outcome is None:
                self.plan.accept(task.id)
            else:
                self.finish(task.id, outcome.status)

    def expand(self, task: Task) -> None:
        made = expand(task, self.by_id, len(self.tasks), LIMITS)
        assert isinstance(made, list)
        task.status, task.started_at = TaskStatus.IN_PROGRESS, utc_now()
        self.tasks += made
        self.by_id |= {each.id: each for each in made}
        elements = self.scripts[task.id].elements()
        self.scripts |= {each.id: script for each, script in zip(made, elements, strict=True)}
        self.plan.expand(task.id, made)

    def below(self, top: str) -> list[str]:
        return subtree([top], children_by_parent(self.tasks))

    def end(self, task_id: str) -> None:
        task, script = self.by_id[task_id], self.scripts[task_id]
        task.attempts += 1
        caller, target = self.scenario.cancel or (None, "")
        if caller == task_id and task_id in self.cancel(target):
            self.finish(task_id, TaskStatus.CANCELLED)
            return
        assert script.script is not None
        status = TaskStatus(script.script[min(task.attempts, len(script.script)) - 1])
        if status is TaskStatus.FAILED and task.attempts < script.allowed_attempts:
            self.plan.wait(task_id)
            self.plan.put_back(task_id)
        else:
            self.finish(task_id, status)

    def cancel(self, target: str) -> list[str]:
        still_open = [self.by_id[each] for each in self.below(target)]
        still_open = [task for task in still_open if task.status not in TERMINAL]
        kept = left_by_cancellation(still_open, [target], self.by_id, is_forced=False, is_repeated=False)
        left = [task.id for task in still_open if task.id not in kept]
        for each in left:
            self.by_id[each].cancel_requested_at = utc_now()
            if self.by_id[each].status is TaskStatus.PENDING:
                self.finish(each, TaskStatus.CANCELLED)
            else:
                self.plan.request_cancel(each)
        if left:
            self.by_id[target].cancel_requested_at = utc_now()
        return left

    def finish(self, task_id: str, status: TaskStatus) -> None:
        self.by_id[task_id].status = status
        self.plan.finish(task_id, status)


def check(tasks: list[Task], expected: Expected) -> None:
    assert {task.key: str(task.status) for task in tasks} == expected.status
    assert {task.key: task.attempts for task in tasks} == expected.attempts
    summary = tree_status(tasks)
    assert (str(summary.status), summary.progress) == (expected.tree_status, expected.progress)
    assert {task.key for task in tasks if task.id in summary.tolerated} == expected.tolerated


@given(scenarios(), st.integers(1, 5))
def test_however_many_run_at_once_a_tree_ends_as_the_rules_say(scenario: Scenario, width: int):
    check(Driver(scenario, width).run(), expect(scenario))


@given(scenarios(with_cancel=True))
def test_a_cancelled_tree_ends_as_the_rules_say(scenario: Scenario):
    expected = expect(scenario)
    assume(not expected.hangs_on_order)
    check(Driver(scenario, 1).run(), expected)


@given(scenarios(may_have_cycles=True))
def test_a_tree_that_could_never_finish_is_found_out(scenario: Scenario):
    assert bool(find_deadlock(stored(scenario))) is not is_free_of_cycles(scenario.tasks)


@given(scenarios())
def test_nothing_starts_before_what_it_needs(scenario: Scenario):
    driver = Driver(scenario, 3)
    started: list[str] = []
    take_ready = driver.plan.take_ready

    def watched(limit: int) -> list[str]:
        taken = take_ready(limit)
        for task_id in taken:
            for need, required in driver.scripts[task_id].needs:
                status = driver.plan.nodes[need].status
                is_holder = task_id in driver.below(need)
                trigger = driver.scripts[task_id].trigger
                takes_any_end = not required or trigger in ("on_failure", "always")
                if is_holder or (takes_any_end and status in TERMINAL):
                    continue
                is_skipped = status is TaskStatus.SKIPPED and trigger == "unless_failed"
                assert status is TaskStatus.COMPLETED or is_skipped
        started.extend(taken)
        return taken

    driver.plan.take_ready = watched  # type: ignore[method-assign]
    driver.run()
    assert {task.id for task in driver.tasks if task.attempts} == set(started)


@given(scenarios(), st.integers(1, 5))
def test_no_more_elements_are_in_progress_than_may_be(scenario: Scenario, width: int):
    driver = Driver(scenario, width)
    take_ready = driver.plan.take_ready

    def watched(limit: int) -> list[str]:
        taken = take_ready(limit)
        for task in scenario.tasks:
            parent = driver.plan.nodes[task.id]
            elements = [each for each in driver.plan.nodes.values() if each.parent is parent]
            running = sum(each.status is TaskStatus.IN_PROGRESS for each in elements)
            assert task.max_parallel is None or running <= task.max_parallel
        return taken

    driver.plan.take_ready = watched  # type: ignore[method-assign]
    driver.run()


@given(scenarios(), st.integers(1, 5), st.integers(0, 20))
def test_a_run_that_continues_from_stored_tasks_ends_in_the_same_way(
    scenario: Scenario, width: int, steps: int
):
    driver = Driver(scenario, width)
    driver.take()
    for _ in range(steps):
        if driver.running:
            driver.end(driver.running.pop(0))
            driver.take()
    for task_id in driver.running:  # their process died
        driver.by_id[task_id].status = TaskStatus.PENDING
    driver.running.clear()
    driver.plan = Plan(driver.tasks)
    check(driver.run(), expect(scenario))
