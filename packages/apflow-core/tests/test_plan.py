"""The planner: order, spreading, groups, and what it costs."""

from __future__ import annotations

import math
import random

import pytest

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.planning.deadlock import find_deadlock
from apflow.core.planning.plan import DerivedOutcome, Plan, choose_executor

COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED


def tree(*specs: str) -> list[Task]:
    """Build tasks from "name parent dep dep? !priority"; a name in capitals is a group."""
    tasks: list[Task] = []
    for position, spec in enumerate(specs):
        name, parent, *rest = [*spec.split(), "-"][: max(2, len(spec.split()))]
        task = Task(
            id=name, name=name, root_id="r", position=position, executor=GROUP if name.isupper() else "x"
        )
        task.parent_id = None if parent == "-" else parent
        for word in rest:
            if word.startswith("!"):
                task.priority = int(word[1:])
            elif word != "-":
                task.dependencies.append({"id": word.rstrip("?"), "required": not word.endswith("?")})
        tasks.append(task)
    return tasks


def statuses(plan: Plan) -> dict[str, str]:
    return {node.id: str(node.status) for node in plan.nodes.values()}


def test_ready_tasks_start_by_priority_then_position():
    plan = Plan(tree("a - !2", "b a !3", "c a !0", "d a !2"))
    assert plan.take_ready(10) == ["c", "a", "d", "b"]


def test_priority_zero_starts_before_negative_does_not():
    plan = Plan(tree("a - !0", "b a !-1"))
    assert plan.take_ready(1) == ["b"]


def test_a_failure_blocks_what_needs_it_and_nothing_else():
    plan = Plan(tree("a -", "b a a", "c a", "d a b"))
    assert plan.take_ready(10) == ["a", "c"]
    plan.finish("a", FAILED)
    assert plan.take_derived() == [DerivedOutcome("b", FAILED, "a"), DerivedOutcome("d", FAILED, "a")]
    plan.finish("c", COMPLETED)
    assert plan.is_done


def test_an_optional_dependency_is_met_however_it_ends():
    plan = Plan(tree("a -", "b a a?"))
    plan.take_ready(10)
    plan.finish("a", FAILED)
    assert plan.take_ready(10) == ["b"]


def test_what_needs_a_cancelled_task_is_cancelled():
    plan = Plan(tree("a -", "b a a", "c a b"))
    plan.take_ready(10)
    plan.finish("a", CANCELLED)
    assert plan.take_derived() == [DerivedOutcome("b", CANCELLED, "a"), DerivedOutcome("c", CANCELLED, "a")]


def test_a_group_ends_when_every_descendant_has_ended():
    plan = Plan(tree("G -", "a G", "b a"))
    assert plan.take_derived() == [DerivedOutcome("G", TaskStatus.IN_PROGRESS)]
    assert plan.take_ready(10) == ["a", "b"]
    plan.finish("a", COMPLETED)
    assert plan.take_derived() == []
    plan.finish("b", COMPLETED)
    assert plan.take_derived() == [DerivedOutcome("G", COMPLETED)]
    assert plan.is_done


def test_a_group_names_the_first_failure_in_it():
    plan = Plan(tree("G -", "H G", "a H", "b G"))
    plan.take_ready(10)
    plan.take_derived()
    plan.finish("a", FAILED)
    assert plan.take_derived() == [DerivedOutcome("H", FAILED, "a")]
    plan.finish("b", FAILED)
    assert plan.take_derived() == [DerivedOutcome("G", FAILED, "a")]


def test_a_tolerated_failure_does_not_fail_its_group():
    plan = Plan(tree("G -", "a G", "b G a", "c G b?"))
    plan.take_ready(10)
    plan.finish("a", FAILED)
    assert plan.take_ready(10) == ["c"]
    plan.finish("c", COMPLETED)
    assert plan.take_derived()[-1] == DerivedOutcome("G", COMPLETED)


def test_the_start_of_a_group_is_enough_for_a_task_inside_it():
    plan = Plan(tree("r -", "G r x", "a G G", "x r"))
    assert plan.take_ready(10) == ["r", "x"]
    plan.finish("x", COMPLETED)
    assert plan.take_ready(10) == ["a"]


def test_a_group_whose_dependency_failed_ends_at_once_and_the_rest_inside_runs():
    plan = Plan(tree("r -", "G r r", "a G", "b G G"))
    assert plan.take_ready(10) == ["r", "a"]
    plan.finish("r", FAILED)
    assert plan.take_derived() == [DerivedOutcome("G", FAILED, "r"), DerivedOutcome("b", FAILED, "r")]
    assert not plan.is_done
    plan.finish("a", COMPLETED)
    assert plan.is_done


def test_a_waiting_retry_gives_up_its_place_and_comes_back():
    plan = Plan(tree("a -"))
    assert plan.take_ready(1) == ["a"]
    plan.wait("a")
    assert plan.take_ready(1) == []
    plan.put_back("a")
    assert plan.take_ready(1) == ["a"]


def test_only_the_scope_is_started_and_ended():
    plan = Plan(tree("a -", "b a a", "c a"), scope=["a", "b"])
    assert plan.take_ready(10) == ["a"]
    plan.finish("a", COMPLETED)
    assert plan.take_ready(10) == ["b"]
    plan.finish("b", COMPLETED)
    assert plan.is_done


def test_a_cycle_through_a_group_is_named():
    assert set(find_deadlock(tree("r -", "G r", "a G b", "b r G"))) == {"G", "a", "b"}
    assert find_deadlock(tree("a - b", "b - c", "c - a")) == ["a", "b", "c"]  # each waits for the next
    assert find_deadlock(tree("r -", "G r", "a G G", "b r G")) == []
    assert find_deadlock(tree("r -", "G r a", "a G")) == []


@pytest.mark.parametrize(
    ("params", "schemas", "name", "has_children", "expected"),
    [
        ({"executor_id": "a"}, {"method": "b"}, "c", False, "a"),
        ({}, {"method": "b"}, "c", False, "b"),
        ({}, {}, "known", True, "known"),
        ({}, {}, "c", True, GROUP),
        ({}, {}, "c", False, None),
    ],
)
def test_the_executor_is_named_by_params_then_method_then_name(params, schemas, name, has_children, expected):
    task = Task(id="t", name=name, root_id="t", params=params, schemas=schemas, has_children=has_children)
    assert choose_executor(task, lambda executor_id: executor_id == "known") == expected


def run_all(plan: Plan, limit: int = 256) -> int:
    ended = 0
    while not plan.is_done:
        ready = plan.take_ready(limit)
        assert ready, plan.stuck()[:5]
        for task_id in ready:
            plan.finish(task_id, COMPLETED)
        ended += len(ready)
        plan.take_derived()
    return ended


def test_a_chain_of_100_000_and_a_join_of_10_000_do_not_recurse():
    chain = [Task(id=str(i), name="x", root_id="0", position=i, executor="x") for i in range(100_000)]
    for i in range(1, 100_000):
        chain[i].parent_id = str(i - 1)
        chain[i].dependencies = [{"id": str(i - 1), "required": True}]
    assert run_all(Plan(chain)) == 100_000
    assert find_deadlock(chain) == []
    plan = Plan(chain)
    plan.take_ready(1)
    plan.finish("0", FAILED)
    assert plan.is_done and len(plan.take_derived()) == 99_999
    join = [Task(id=str(i), name="x", root_id="0", position=i, executor="x") for i in range(10_001)]
    join[-1].dependencies = [{"id": str(i), "required": True} for i in range(10_000)]
    assert run_all(Plan(join)) == 10_001


def test_groups_nested_50_000_deep_close_without_recursion():
    nest = [Task(id=str(i), name="x", root_id="0", position=i, executor=GROUP) for i in range(50_000)]
    nest[-1].executor = "x"
    for i in range(1, 50_000):
        nest[i].parent_id = str(i - 1)
        nest[i].dependencies = [{"id": str(i - 1), "required": True}]
    assert find_deadlock(nest) == []
    assert run_all(Plan(nest)) == 1


def random_tree(size: int, edges: int, seed: int) -> list[Task]:
    chance = random.Random(seed)
    tasks = [Task(id=str(i), name="x", root_id="0", position=i, executor="x") for i in range(size)]
    for i in range(1, size):
        tasks[i].parent_id = str(chance.randrange(i))
        tasks[i].priority = chance.randrange(4)
        wanted = {str(chance.randrange(i)) for _ in range(edges)}
        tasks[i].dependencies = [{"id": each, "required": True} for each in wanted]
    return tasks


@pytest.mark.parametrize("edges", [0, 1, 8])
def test_planning_costs_no_more_than_vertices_plus_edges_times_log(edges):
    per_step = []
    for size in (1_000, 10_000, 40_000):
        tasks = random_tree(size, edges, seed=size)
        plan = Plan(tasks)
        run_all(plan)
        total = size + sum(len(task.dependencies) for task in tasks)
        per_step.append(plan.steps / (total * math.log2(size)))
    assert max(per_step) < 2
    assert per_step[-1] <= per_step[0] * 1.2
