"""Which failures are tolerated, by the rule that a run and the status of a tree share."""

from __future__ import annotations

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.model.tolerance import decide_tolerance, tolerated
from apflow.core.planning.plan import Plan

Edges = dict[str, list[tuple[str, bool]]]


def decide(
    edges: Edges, failed: str, known: dict[str, bool] | None = None
) -> tuple[dict[str, bool], list[str]]:
    """Return the decisions, and the nodes whose dependents were looked up."""
    known = {} if known is None else known
    asked: list[str] = []

    def dependents_of(node: str) -> list[tuple[str, bool]]:
        asked.append(node)
        return edges.get(node, [])

    decide_tolerance(failed, dependents_of, lambda node: node in failed, known)
    return known, asked


def test_a_failure_that_leads_to_itself_is_not_tolerated():
    edges: Edges = {"a": [("b", True)], "b": [("a", True), ("c", False)]}
    assert decide(edges, "ab")[0] == {"a": False, "b": False}


def test_each_failure_is_decided_once_although_many_require_it():
    edges: Edges = {
        each: [(later, True) for later in "abcdefgh"[at + 1 :]] for at, each in enumerate("abcdefgh")
    }
    edges["h"] = [("end", False)]
    known, asked = decide(edges, "abcdefgh")
    assert all(known.values())
    assert sorted(asked) == list("abcdefgh")


def test_a_decision_that_is_known_is_not_made_again():
    edges: Edges = {"a": [("b", True)], "b": [("c", False)]}
    assert decide(edges, "ab", {"b": True}) == ({"a": True, "b": True}, ["a"])
    assert decide(edges, "ab", {"b": False}) == ({"a": False, "b": False}, ["a"])


def test_a_run_and_the_status_of_the_tree_agree_on_a_chain_of_100_000_failures():
    size = 100_000
    tasks = [Task(id=str(at), name="x", root_id="0", position=at, executor="x") for at in range(size)]
    tasks[0].executor = GROUP
    for at, task in enumerate(tasks[1:], 1):
        task.parent_id, task.status = "0", TaskStatus.FAILED
        task.dependencies = [{"id": str(at - 1), "required": at < size - 1}] if at > 1 else []
    tasks[-1].status = TaskStatus.COMPLETED
    tasks[0].status = TaskStatus.PENDING
    plan = Plan(tasks)
    assert {task.id for task in tasks[1:-1] if plan.is_tolerated(task.id)} == tolerated(tasks)
    assert len(tolerated(tasks)) == size - 2
    assert [(each.task_id, each.status) for each in plan.take_derived()][-1] == ("0", TaskStatus.COMPLETED)
    assert plan.steps < 20 * size


def test_a_completed_list_that_requires_the_failed_group_around_it_does_not_make_its_failure_tolerated():
    group = Task(id="r", name="r", root_id="r", executor=GROUP, status=TaskStatus.FAILED)
    fails = Task(id="b", name="b", root_id="r", parent_id="r", executor="x", status=TaskStatus.FAILED)
    each = Task(id="l", name="l", root_id="r", parent_id="r", executor=GROUP, status=TaskStatus.COMPLETED)
    each.policy = {"for_each": {"items": [1]}}
    each.dependencies = [{"id": "r", "required": True}]
    element = Task(id="e", name="e", root_id="r", parent_id="l", executor="x", status=TaskStatus.COMPLETED)
    assert tolerated([group, fails, each, element]) == set()
    element.status = TaskStatus.FAILED
    assert tolerated([group, fails, each, element]) == {"e"}
