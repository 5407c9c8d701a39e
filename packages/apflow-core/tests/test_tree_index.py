"""The edges of a tree and walks along them, compared with a slow definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.task import Task
from apflow.core.model.tree_index import (
    TreeIndex,
    children_by_parent,
    contains,
    nearest_ancestors,
    number_spans,
)


@st.composite
def trees(draw: st.DrawFn) -> list[Task]:
    """Draw the tasks of a tree in any order."""
    parents = [draw(st.integers(0, at)) for at in range(draw(st.integers(0, 12)))]
    tasks = [Task(id="0", name="0", root_id="0")]
    for at, parent in enumerate(parents, 1):
        tasks.append(Task(id=str(at), name=str(at), root_id="0", parent_id=str(parent)))
    return draw(st.permutations(tasks))


@given(trees())
def test_children_subtrees_ancestors_and_spans_agree(tasks: list[Task]):
    index, spans = TreeIndex(tasks), number_spans(tasks)
    assert index.children == children_by_parent(tasks)
    assert sorted(numbers[0] for numbers in spans.values()) == list(range(len(tasks)))
    for task in tasks:
        assert index.children.get(task.id, []) == [each.id for each in tasks if each.parent_id == task.id]
        below = index.subtree(task.id)[1:]
        assert {each.id for each in tasks if task.id in index.ancestors(each.id)} == set(below)
        assert {each.id for each in tasks if contains(spans, task.id, each.id)} == set(below)


@given(trees(), st.sets(st.integers(0, 12)))
def test_the_nearest_wanted_ancestor_is_the_first_one_on_the_way_up(tasks: list[Task], wanted: set[int]):
    index = TreeIndex(tasks)
    nearest = nearest_ancestors(index.by_id, set(map(str, wanted)))
    for task in tasks:
        expected = next((each for each in index.ancestors(task.id) if int(each) in wanted), None)
        assert nearest[task.id] == expected


def test_the_search_for_ancestors_ends_where_parents_form_a_cycle():
    tasks = [
        Task(id="a", name="a", root_id="a", parent_id="b"),
        Task(id="b", name="b", root_id="a", parent_id="a"),
    ]
    assert nearest_ancestors({task.id: task for task in tasks}, set()) == {"a": None, "b": None}


def test_a_part_of_a_tree_keeps_the_children_of_a_parent_outside_it():
    part = [
        Task(id="a", name="a", root_id="r", parent_id="r"),
        Task(id="b", name="b", root_id="r", parent_id="a"),
    ]
    assert children_by_parent(part) == {"r": ["a"], "a": ["b"]}
    index = TreeIndex(part)
    assert index.roots() == ["a"]
    assert list(index.ancestors("b")) == ["a"]
    assert index.subtree("a") == ["a", "b"]


def test_a_chain_of_100_000_tasks_does_not_recurse():
    chain = [
        Task(id=str(at), name="x", root_id="0", parent_id=str(at - 1) if at else None)
        for at in range(100_000)
    ]
    spans = number_spans(chain)
    assert contains(spans, "0", "99999")
    assert not contains(spans, "99999", "0")
    assert len(TreeIndex(chain).subtree("0")) == 100_000
