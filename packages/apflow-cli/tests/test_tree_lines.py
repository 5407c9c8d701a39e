from __future__ import annotations

from typing import Any

from apflow.cli.display.names import executor_of, short_ids
from apflow.cli.display.outcome import result_lines
from apflow.cli.display.tree_lines import counts_text, ids_of, tree_lines


def task(name: str, *children: Any, status: str = "completed") -> dict[str, Any]:
    return {"id": name, "name": name, "status": status, "children": list(children)}


TREE = task(
    "root",
    task("a", task("a1", status="failed"), task("a2"), status="failed"),
    task("b", task("b1"), task("b2", task("b21"))),
    task("c", status="pending"),
    status="failed",
)


def shown(**options: Any) -> list[tuple[int, str]]:
    return [
        (line.depth, line.task["id"] if line.task is not None else f"+ {counts_text(line.hidden)}")
        for line in tree_lines(TREE, **options)
    ]


def test_a_tree_is_shown_whole_and_in_order():
    assert [name for _, name in shown()] == ["root", "a", "a1", "a2", "b", "b1", "b2", "b21", "c"]
    assert [depth for depth, _ in shown()] == [0, 1, 2, 2, 1, 2, 2, 3, 1]


def test_a_depth_counts_what_is_below():
    assert shown(depth=1) == [
        (0, "root"),
        (1, "a"),
        (2, "+ 1 completed, 1 failed"),
        (1, "b"),
        (2, "+ 3 completed"),
        (1, "c"),
    ]
    assert shown(depth=0) == [(0, "root"), (1, "+ 1 pending, 5 completed, 2 failed")]


def test_a_status_keeps_the_tasks_above_and_counts_the_others():
    assert shown(statuses=["pending"]) == [
        (0, "root"),
        (1, "c"),
        (1, "+ 5 completed, 2 failed"),
    ]


def test_a_tree_that_is_too_large_is_reduced_to_what_failed_or_runs():
    assert shown(limit=5) == [
        (0, "root"),
        (1, "a"),
        (2, "a1"),
        (2, "+ 1 completed"),
        (1, "+ 1 pending, 4 completed"),
    ]
    assert shown(limit=9) == shown()
    assert shown(limit=1) == [(0, "root"), (1, "+ 1 pending, 5 completed, 2 failed")]


def test_a_tree_of_any_depth_is_reduced():
    deep = task("end", status="failed")
    for number in range(50_000):
        deep = task(f"t{number}", deep)
    assert len(list(tree_lines(deep, depth=10))) == 12


def test_ids_of_a_tree_are_those_that_match():
    assert list(ids_of(TREE, ["failed"])) == ["root", "a", "a1"]
    assert list(ids_of(TREE, depth=0)) == ["root"]


def test_short_ids_distinguish_and_given_ids_stay():
    one = "01234567-89ab-4cde-8f01-23456789abcd"
    other = "01234567-89ab-4cde-9f01-23456789abcd"
    third = "fedcba98-89ab-4cde-8f01-23456789abcd"
    assert short_ids([one, third, "nightly-import"]) == {
        one: "01234567",
        third: "fedcba98",
        "nightly-import": "nightly-import",
    }
    assert set(short_ids([one, other]).values()) == {one[:23], other[:23]}


def test_the_executor_is_the_one_that_the_task_names():
    assert executor_of({"name": "n", "params": {"executor_id": "p"}, "schemas": {"method": "m"}}) == "p"
    assert executor_of({"name": "n", "params": {}, "schemas": {"method": "m"}}) == "m"
    assert executor_of({"name": "n", "params": {}, "schemas": {}}) == "n"
    assert executor_of({"name": "n", "params": {}, "schemas": {}, "has_children": True}) == ""


def test_a_long_result_is_cut_and_says_how_to_get_the_whole():
    cut = result_lines({str(number): number for number in range(100)}, "r")
    assert len(cut) == 22
    assert cut[-2] == "... 82 more lines (the whole: apflow tasks get r)"
    assert "--output FILE" in cut[-1]
    assert result_lines({"a": [1]}, "r") == ["{", '  "a": [', "    1", "  ]", "}"]
    [long, advice, _] = result_lines("x" * 1000, "r")
    assert (len(long), advice.startswith("... cut (the whole")) == (203, True)
