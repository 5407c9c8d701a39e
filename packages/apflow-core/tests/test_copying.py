"""What a copy takes along, on trees spelled out and on random ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apflow.core.authoring.copy_plan import CopyPlan, as_array, copied_tasks, plan_copy
from apflow.core.authoring.creator import TaskCreator, check_array
from apflow.core.errors import InvalidInputError, NotFoundError
from apflow.core.model.cycles import find_cycle
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.inputs import find_references
from apflow.core.payload.json_value import copy_json
from apflow.core.settings import Settings
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore

STATUS = {"p": "pending", "i": "in_progress", "c": "completed", "f": "failed", "x": "cancelled"}


def make(task_id: str, status: str, parent: str | None, needs: Iterable[str], *, is_group: bool) -> Task:
    needed = [{"id": each.rstrip("?"), "required": not each.endswith("?")} for each in needs]
    done = status == "completed"
    return Task(
        id=task_id,
        name=task_id,
        root_id="root",
        parent_id=parent,
        status=TaskStatus(status),
        executor=GROUP if is_group else "some_executor",
        dependencies=needed,  # type: ignore[arg-type]
        inputs={"got": {"$from": needed[0]["id"], "path": "a"}} if needed else {"n": 1},
        result={"by": task_id} if done else None,
    )


def tree(**spec: str) -> list[Task]:
    """A tree below the group `root`: `a="c b d? /g"` completed, needs b, and d optionally, and is in g.

    A capital letter makes a group.
    """
    tasks: list[Task] = []
    for task_id, text in ({"root": "C"} | spec).items():
        state, *rest = text.split()
        parent = next((each[1:] for each in rest if each.startswith("/")), "root")
        needs = [each for each in rest if not each.startswith("/")]
        above = None if task_id == "root" else parent
        tasks.append(make(task_id, STATUS[state.lower()], above, needs, is_group=state.isupper()))
    for position, task in enumerate(tasks):
        task.position = position
    return tasks


def kept(tasks: list[Task], task_id: str, children: bool = False, **options: Any) -> tuple[str, str]:
    """What is copied as pending, and what as completed."""
    plan = plan_copy(tasks, task_id, children, **options)
    ids = [task.id for task in tasks]
    return (
        " ".join(each for each in ids if each in plan.pending),
        " ".join(each for each in ids if each in plan.completed),
    )


def copies_by_original(tasks: list[Task], plan: CopyPlan) -> dict[str, Task]:
    return {copy.original_task_id or "": copy for copy in copied_tasks(tasks, plan)}


def test_one_task_is_copied_with_what_holds_it_and_the_results_that_it_needs():
    tasks = tree(a="c", b="c a", c="c b", d="c c", e="c")
    assert kept(tasks, "c") == ("root c", "b")


def test_with_children_comes_what_depends_on_them():
    tasks = tree(a="c", b="c a", c="c b /b", d="c c", e="c d?", f="c")
    assert kept(tasks, "b", children=True) == ("root b c d e", "a")


def test_a_dependency_without_a_result_is_copied_with_what_it_needs():
    tasks = tree(a="c", b="f a", c="f b", d="p c", e="p")
    assert kept(tasks, "d") == ("root b c d", "a")


def test_a_group_that_is_needed_and_not_completed_brings_what_it_holds():
    tasks = tree(root="P", g="F", a="c /g", b="f /g", h="c", c="p g")
    assert kept(tasks, "c") == ("root g b c", "a")


def test_a_completed_group_that_is_needed_comes_without_what_it_holds():
    tasks = tree(g="C", a="c /g", c="c g")
    assert kept(tasks, "c") == ("root c", "g")


def test_a_group_that_holds_the_task_comes_without_the_rest_of_it():
    tasks = tree(root="P", g="P", a="p /g g", b="p /g")
    assert kept(tasks, "a") == ("root g a", "")


def test_a_task_above_with_an_executor_lends_its_result():
    tasks = tree(root="c", a="c root", b="c root")
    assert kept(tasks, "a") == ("a", "root")
    copies = copies_by_original(tasks, plan_copy(tasks, "a"))
    assert copies["root"].result == {"by": "root"}
    assert copies["a"].dependencies == [{"id": copies["root"].id, "required": True}]


def test_a_dependency_from_elsewhere_hangs_below_the_nearest_copy():
    tasks = tree(g="C", h="C /g", a="c /h", b="c a /g")
    copies = copies_by_original(tasks, plan_copy(tasks, "b"))
    assert copies["a"].parent_id == copies["g"].id
    assert copies["g"].parent_id == copies["root"].id


def test_a_completed_copy_keeps_its_result_and_no_dependency():
    tasks = tree(a="c", b="c a", c="f b")
    copies = copies_by_original(tasks, plan_copy(tasks, "c"))
    lent = copies["b"]
    assert (lent.status, lent.result, lent.dependencies) == ("completed", {"by": "b"}, [])
    assert lent.inputs == {"got": None}  # what it referred to is not there
    assert copies["c"].inputs == {"got": {"$from": lent.id, "path": "a"}}


def test_a_full_copy_runs_everything_but_completed_tasks_that_have_nothing_to_do_with_the_task():
    tasks = tree(root="F", a="c", b="c a", c="c b", d="c", e="f", g="C", h="c c /g")
    assert kept(tasks, "b", copy_mode="full") == ("root b c e g h", "a d")
    assert kept(tasks, "root", copy_mode="full")[0] == "root a b c d e g h"


def test_a_custom_copy_takes_the_tasks_that_are_named_and_what_holds_them():
    tasks = tree(g="C", a="c /g", b="c a /g", c="c", d="c c")
    assert kept(tasks, "root", copy_mode="custom", custom_task_ids=["b", "d"]) == ("root g b d", "a c")


def test_fields_can_be_reset():
    tasks = tree(a="c")
    tasks[1].priority, tasks[1].params = 0, {"x": 1}
    plan = plan_copy(tasks, "a")
    copy = copied_tasks(tasks, plan, ["inputs", "priority", "result"])[1]
    assert (copy.inputs, copy.priority, copy.params) == ({}, 2, {"x": 1})
    with pytest.raises(InvalidInputError, match="Did you mean 'inputs'"):
        copied_tasks(tasks, plan, ["input"])


def test_options_that_do_not_go_together_are_refused():
    tasks = tree(a="c")
    with pytest.raises(InvalidInputError, match="needs custom_task_ids"):
        plan_copy(tasks, "a", copy_mode="custom")
    with pytest.raises(InvalidInputError, match="go with copy_mode"):
        plan_copy(tasks, "a", custom_task_ids=["a"])
    with pytest.raises(InvalidInputError, match="copy_mode is one of"):
        plan_copy(tasks, "a", copy_mode="deep")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        plan_copy(tasks, "nobody")


@st.composite
def trees(draw: st.DrawFn, max_size: int = 9) -> list[Task]:
    """A random tree in any mixture of states; a task depends on earlier ones only."""
    size = draw(st.integers(1, max_size))
    ids = ["root", *(f"t{number}" for number in range(1, size))]
    tasks: list[Task] = []
    for at, task_id in enumerate(ids):
        parent = ids[draw(st.integers(0, at - 1))] if at else None
        needed = draw(st.lists(st.sampled_from(ids[:at]), unique=True, max_size=3)) if at else []
        status = STATUS[draw(st.sampled_from("pcfx"))]
        marks = [each + draw(st.sampled_from(["", "?"])) for each in needed]
        tasks.append(make(task_id, status, parent, marks, is_group=draw(st.booleans())))
        tasks[at].position = at
    return tasks


@st.composite
def copy_orders(draw: st.DrawFn, max_size: int = 9) -> tuple[list[Task], dict[str, Any]]:
    tasks = draw(trees(max_size))
    ids = [task.id for task in tasks]
    mode = draw(st.sampled_from(["minimal", "full", "custom"]))
    named = draw(st.lists(st.sampled_from(ids), min_size=1, unique=True)) if mode == "custom" else None
    return tasks, {
        "task_id": draw(st.sampled_from(ids)),
        "children": draw(st.booleans()),
        "copy_mode": mode,
        "custom_task_ids": named,
    }


def check_copy(tasks: list[Task], order: dict[str, Any]) -> None:
    before = [copy_json(task.to_dict()) for task in tasks]
    plan = plan_copy(tasks, **order)
    copies = copied_tasks(tasks, plan)
    by_id = {copy.id: copy for copy in copies}
    originals = {task.id: task for task in tasks}
    assert [task.to_dict() for task in tasks] == before
    assert by_id.keys().isdisjoint(originals)
    assert sum(1 for _ in TaskTreeNode.build(copies).walk()) == len(copies) == len(plan.kept)
    assert find_cycle({copy.id: [each["id"] for each in copy.dependencies] for copy in copies}) == []
    wanted = order["custom_task_ids"] or [order["task_id"]]
    assert plan.pending.issuperset(wanted)
    for copy in copies:
        original = originals[copy.original_task_id or ""]
        declared = {each["id"] for each in copy.dependencies}
        assert declared <= by_id.keys()
        assert {each.source for each in find_references(copy.inputs)} <= declared
        if original.id in plan.pending:
            names = [originals[by_id[each["id"]].original_task_id or ""].id for each in copy.dependencies]
            assert names == [each["id"] for each in original.dependencies]
            assert (copy.status, copy.result) == ("pending", None)
        else:
            assert original.status == "completed"
            assert (copy.status, copy.result) == ("completed", original.result)
    again = check_array(as_array(copies), Settings())
    assert [(task.id, task.parent_id, task.status) for task in again] == [
        (copy.id, copy.parent_id, copy.status) for copy in copies
    ]


@given(copy_orders())
@settings(max_examples=300, deadline=None)
def test_a_copy_is_a_tree_that_can_run_and_leaves_the_original_alone(case: tuple[list[Task], dict[str, Any]]):
    check_copy(*case)


@pytest.mark.long
@given(copy_orders(max_size=25))
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_copies_are_trees_that_can_run(case: tuple[list[Task], dict[str, Any]]):
    check_copy(*case)


def test_a_long_chain_and_a_wide_join_are_copied_without_recursion():
    chain = {f"t{at}": f"P /t{at - 1} t{at - 1}?" if at else "P" for at in range(20_000)}
    tasks = tree(root="P", **chain, last="p t19999")
    assert len(copied_tasks(tasks, plan_copy(tasks, "last"))) == 20_002
    wide = {f"t{at}": "c" for at in range(10_000)}
    tasks = tree(**wide, join="f " + " ".join(wide))
    assert len(copied_tasks(tasks, plan_copy(tasks, "join"))) == 10_002


async def test_a_saved_copy_marks_the_originals_and_nothing_else_of_them():
    creator = TaskCreator(MemoryStore())
    array = [{"name": "root"}, {"name": "a", "parent_id": "root"}, {"name": "b", "parent_id": "root"}]
    original = await creator.create_task_tree_from_array(array)
    node = await creator.create_task_copy(original.children[0].task)
    assert [each.task.name for each in node.walk()] == ["root", "a"]
    assert node.ids[original.task.id] == node.task.id
    stored = await creator.db.tree(original.task.id)
    assert [task.has_copy for task in stored] == [True, True, False]
    found = await creator.db.find(TaskQuery(original_task_id=original.children[0].task.id))
    assert [task.root_id for task in found] == [node.task.id]


async def test_an_unsaved_copy_is_an_array_that_creates_it():
    creator = TaskCreator(MemoryStore())
    original = await creator.create_task_tree_from_array([{"name": "root", "inputs": {"n": 1}}])
    array = await creator.create_task_copy(original.task, save=False)
    assert isinstance(array, list)
    assert await creator.db.count(TaskQuery()) == {TaskStatus.PENDING: 1}
    node = await creator.create_task_tree_from_array(array)
    assert node.task.original_task_id == original.task.id
    assert node.task.inputs == {"n": 1}


async def test_a_task_that_is_not_stored_cannot_be_copied():
    with pytest.raises(NotFoundError):
        await TaskCreator(MemoryStore()).create_task_copy(Task(id="x", name="x", root_id="x"))
