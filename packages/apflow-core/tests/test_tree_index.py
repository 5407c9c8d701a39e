"""The edges of a tree and walks along them, compared with a slow definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.task import Task
from apflow.core.model.tree_index import TreeIndex, children_by_parent, contains, number_spans


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
