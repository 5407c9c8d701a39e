from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apflow.core.errors import TreeInvalidError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task, utc_now
from apflow.core.model.tolerance import tolerated
from apflow.core.model.tree import TaskTreeNode, tree_status

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def task(
    task_id: str, status: str = "pending", parent: str | None = "root", needs: str = "", **more: Any
) -> Task:
    """A task of the tree `root`; `needs="a b?"` requires a, and b optionally."""
    return Task(
        id=task_id,
        name=more.pop("name", task_id),
        root_id="root",
        parent_id=None if task_id == "root" else parent,
        status=TaskStatus(status),
        dependencies=[{"id": each.rstrip("?"), "required": not each.endswith("?")} for each in needs.split()],
        started_at=more.pop("started_at", None if status == "pending" else NOON),
        **more,
    )


def failed(error_type: str) -> Mapping[str, Any]:
    return {"result": {"error_type": error_type}, "error": error_type}


def test_a_node_without_children_has_a_list_for_them_all_the_same():
    node = TaskTreeNode(task("root"))
    assert node.is_leaf
    node.children.append(TaskTreeNode(task("a")))
    node.ids["given"] = "real"
    assert not node.is_leaf
    assert [each.task.id for each in node.walk()] == ["root", "a"]
    assert node.ids == {"given": "real"}
    node.children = []
    assert node.is_leaf


def test_a_failure_is_tolerated_when_everything_that_waits_for_it_may_go_on_without_it():
    tasks = [task("root", "completed"), task("a", "failed"), task("b", "completed", needs="a?")]
    assert tolerated(tasks) == {"a"}
    assert tree_status(tasks).status == "completed"
    assert tree_status(tasks).tolerated == ["a"]
    assert tree_status(tasks).error is None


def test_a_failure_that_nothing_waits_for_counts():
    tasks = [task("root", "completed"), task("a", "failed", error="boom")]
    assert tolerated(tasks) == set()
    assert tree_status(tasks).status == "failed"
    assert tree_status(tasks).error == "task a: boom"


def test_a_chain_of_failures_is_tolerated_when_its_last_one_is():
    tasks = [
        task("root", "completed"),
        task("a", "failed"),
        task("b", "failed", needs="a"),
        task("c", "completed", needs="b?"),
    ]
    assert tolerated(tasks) == {"a", "b"}


def test_a_failure_that_one_task_required_counts_although_another_did_without():
    tasks = [
        task("root", "completed"),
        task("a", "failed"),
        task("b", "failed", needs="a"),
        task("c", "completed", needs="a?"),
    ]
    assert tolerated(tasks) == set()


def test_what_lies_inside_a_tolerated_failed_group_does_not_count():
    tasks = [
        task("root", "completed"),
        task("g", "failed", executor=GROUP),
        task("in", "failed", parent="g"),
        task("in2", "cancelled", parent="g"),
        task("after", "completed", needs="g?"),
    ]
    assert tolerated(tasks) == {"g", "in", "in2"}
    assert tree_status(tasks).status == "completed"
    assert tree_status(tasks).tolerated == ["g", "in"]


def test_a_tree_that_was_not_started_is_pending_even_if_some_results_were_copied():
    assert tree_status([task("root"), task("a")]).status == "pending"
    assert tree_status([task("root"), task("a", "completed", started_at=None)]).status == "pending"


def test_a_tree_with_open_tasks_is_in_progress_once_one_has_started():
    tasks = [task("root"), task("a", "completed"), task("b")]
    assert tree_status(tasks).status == "in_progress"
    assert tree_status(tasks).progress == pytest.approx(1 / 3)


def test_a_tree_whose_root_was_to_be_cancelled_is_cancelled_when_all_have_ended():
    tasks = [task("root", "cancelled", cancel_requested_at=NOON), task("a", "failed")]
    assert tree_status(tasks).status == "cancelled"
    assert tree_status([*tasks, task("b", "in_progress")]).status == "in_progress"


def test_failed_weighs_more_than_cancelled_and_cancelled_more_than_completed():
    assert tree_status([task("root", "completed"), task("a", "cancelled")]).status == "cancelled"
    assert (
        tree_status([task("root", "completed"), task("a", "cancelled"), task("b", "failed")]).status
        == "failed"
    )


def test_the_error_of_a_tree_names_what_failed_first_and_not_what_followed():
    tasks = [
        task("root", "failed", executor=GROUP, completed_at=NOON, **failed("ChildFailed")),
        task("a", "failed", needs="b", completed_at=NOON, **failed("DependencyFailed")),
        task("b", "failed", completed_at=NOON + timedelta(seconds=1), **failed("ValueError")),
    ]
    assert tree_status(tasks).error == "task b: ValueError"


def test_a_node_answers_like_a_mapping():
    node = TaskTreeNode.build([task("root", "completed", result={"n": 1}), task("a", "completed")])
    assert (node["status"], node["progress"], node["result"], node["error"]) == (
        "completed",
        1.0,
        {"n": 1},
        None,
    )
    assert node.calculate_status() == "completed"
    with pytest.raises(KeyError):
        node["colour"]  # type: ignore[index]


def test_nodes_are_built_in_order_and_shown_nested():
    node = TaskTreeNode.build([task("root"), task("a"), task("b"), task("c", parent="a")])
    assert [each.task.id for each in node.walk()] == ["root", "a", "c", "b"]
    shown = node.to_dict()
    assert [child["id"] for child in shown["children"]] == ["a", "b"]
    assert shown["children"][0]["children"][0]["id"] == "c"


def test_a_part_of_a_tree_can_be_built_from_the_whole():
    assert [
        n.task.id for n in TaskTreeNode.build([task("root"), task("a"), task("c", parent="a")], "a").walk()
    ] == [
        "a",
        "c",
    ]


def test_two_roots_are_no_tree():
    with pytest.raises(TreeInvalidError, match="exactly one root"):
        TaskTreeNode.build([task("root"), task("a", parent=None)])


def test_a_refreshed_node_stays_the_same_node_and_learns_of_others():
    root = TaskTreeNode(task("root"))
    child = TaskTreeNode(task("a"))
    root.add_child(child)
    root.refresh([task("root", "completed"), task("a", "completed"), task("b", "completed")])
    assert root.children[0] is child
    assert child.task.status == "completed"
    assert [each.task.id for each in root.walk()] == ["root", "a", "b"]


def test_a_chain_of_a_hundred_thousand_tasks_needs_no_recursion():
    ids = ["root", *(f"t{number}" for number in range(100_000))]
    tasks = [
        task(ids[at], "failed", parent=ids[at - 1] if at else None, needs=ids[at - 1] if at else "")
        for at in range(len(ids))
    ]
    tasks[-1].status = TaskStatus.COMPLETED
    tasks[-1].dependencies[0]["required"] = False
    node = TaskTreeNode.build(tasks)
    assert sum(1 for _ in node.walk()) == len(ids)
    assert len(tolerated(tasks)) == len(ids) - 1
    assert node["status"] == "completed"
    shown = node.to_dict()
    while shown["children"]:
        shown = shown["children"][0]
    assert shown["id"] == ids[-1]


def test_times_are_shown_as_text():
    assert TaskTreeNode(task("root", created_at=utc_now())).to_dict()["created_at"].endswith("+00:00")


def test_tasks_and_nodes_are_copied_and_pickled_as_any_object():
    node = TaskTreeNode(Task(id="a", name="a", root_id="a"))
    for again in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert again.task.to_dict() == node.task.to_dict()


@pytest.mark.parametrize("status", TaskStatus)
def test_a_task_and_a_tree_of_one_task_have_the_same_progress(status: TaskStatus):
    task = Task(id="a", name="a", root_id="a", status=status, progress=0.25)
    expected = 1.0 if TaskStatus.is_terminal(status) else 0.25
    node = TaskTreeNode(task)
    shown = [
        tree_status([task]).progress,
        task.to_dict()["progress"],
        node["progress"],
        node.to_dict()["progress"],
    ]
    assert shown == [expected] * 4
