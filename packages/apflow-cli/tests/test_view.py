from __future__ import annotations

from typing import Any

from apflow.cli.display.view import View


def task(name: str, *children: Any, status: str = "pending") -> Any:
    return {
        "id": name,
        "name": name,
        "status": status,
        "progress": 0.0,
        "error": None,
        "children": list(children),
    }


def event(kind: str, task_id: str, status: str | None = None, **more: Any) -> Any:
    return {
        "type": kind,
        "task_id": task_id,
        "status": status,
        "progress": None,
        "error": None,
        "message": None,
    } | more


def test_rows_stand_in_the_order_of_the_tree():
    view = View(task("root", task("a", task("b")), task("c")))
    assert [(row.name, row.depth) for row in view.rows.values()] == [
        ("root", 0),
        ("a", 1),
        ("b", 2),
        ("c", 1),
    ]


def test_events_move_tasks_and_keep_count():
    view = View(task("root", task("a"), task("b")))
    view.apply(event("task_started", "a", "in_progress"))
    view.apply(event("progress", "a", "in_progress", progress=0.5, message="half"))
    view.apply(event("task_completed", "b", "completed"))
    assert (view.rows["a"].progress, view.rows["a"].note) == (0.5, "half")
    assert view.ended == 1
    assert view.fraction == 0.5
    assert view.counts() == "1 pending, 1 in progress, 1 completed"


def test_an_event_of_the_whole_tree_changes_no_row():
    view = View(task("root", status="in_progress"))
    view.apply(event("tree_started", "root", "pending"))
    assert view.rows["root"].status == "in_progress"


def test_an_event_of_an_unknown_task_is_no_fault():
    View(task("root")).apply(event("task_started", "other", "in_progress"))


def test_a_tree_higher_than_the_terminal_shows_what_runs_and_what_failed():
    view = View(task("root", *(task(f"t{number}") for number in range(100))))
    for number in range(5):
        view.apply(event("task_started", f"t{number}", "in_progress"))
    view.apply(event("task_failed", "t1", "failed", error="broken"))
    assert [row.name for row in view.visible(4)] == ["t0", "t1", "t2", "t3"]
    assert view.visible(4)[1].note == "broken"


def test_the_elements_of_a_list_appear_below_it_and_are_counted():
    each = task("each", status="in_progress") | {"policy": {"for_each": {"items": []}}}
    view = View(task("root", each, task("after")))
    for number in range(3):
        created = {"data": {"name": "each", "parent_id": "each"}, "key": f"each[{number}]"}
        view.apply(event("task_created", f"e{number}", "pending", **created))
    view.apply(event("task_completed", "e0", "completed"))
    view.apply(event("task_failed", "e1", "failed", error="no"))
    assert [(row.name, row.depth) for row in view.visible(10)] == [
        ("root", 0), ("each", 1), ("each (each[0])", 2), ("each (each[1])", 2), ("each (each[2])", 2),
        ("after", 1),
    ]  # fmt: skip
    assert view.rows["each"].shown == "2 of 3 elements, 1 failed"
    assert [row.name for row in view.visible(3)] == ["each", "each (each[1])"]
    assert view.counts() == "3 pending, 1 in progress, 1 completed, 1 failed"
