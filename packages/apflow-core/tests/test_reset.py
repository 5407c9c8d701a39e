from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from apflow.core.errors import NotFoundError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.planning.rerun import plan_rerun

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STATUS = {
    "p": "pending",
    "i": "in_progress",
    "c": "completed",
    "f": "failed",
    "x": "cancelled",
    "d": "failed",
}


def tree(**spec: str) -> list[Task]:
    """A tree below the group `root`: `a="f b c?"` is a failed task that requires b, and c optionally.

    States by letter (`d`: failed because of another); `/g` puts a task into the group g; `g="C"` is a
    group, in capitals.
    """
    tasks: list[Task] = []
    for task_id, text in ({"root": "C"} | spec).items():
        state, *rest = text.split()
        parent = next((each[1:] for each in rest if each.startswith("/")), "root")
        needs = [each for each in rest if not each.startswith("/")]
        tasks.append(
            Task(
                id=task_id,
                name=task_id,
                root_id="root",
                parent_id=None if task_id == "root" else parent,
                position=len(tasks),
                status=TaskStatus(STATUS[state.lower()]),
                executor=GROUP if state.isupper() else "some_executor",
                started_at=None if state.lower() in "pdx" else NOON,
                dependencies=[{"id": each.rstrip("?"), "required": not each.endswith("?")} for each in needs],
                result={"error_type": "DependencyFailed"} if state.lower() == "d" else None,
            )
        )
    return tasks


def rerun(tasks: list[Task], named: str | None = None, **options: Any) -> tuple[str, str | None]:
    answer = plan_rerun(tasks, named, **options)
    return " ".join(answer.reset), None if answer.scope is None else " ".join(answer.scope)


def test_a_tree_runs_again_what_has_not_completed_and_the_groups_that_hold_it():
    assert rerun(tree(root="F", a="c", b="f a", c="d b", d="p")) == ("root b c", None)


def test_a_completed_tree_runs_nothing_again():
    assert rerun(tree(a="c", b="c a")) == ("", None)


def test_a_completed_group_goes_back_when_something_in_it_does():
    assert rerun(tree(g="C", a="f /g", b="f")) == ("root g a b", None)


def test_a_tolerated_failure_stays_when_everything_that_waited_for_it_completed():
    assert rerun(tree(a="f", b="c a?")) == ("", None)
    assert rerun(tree(a="f", b="d a", c="c b?")) == ("", None)


def test_a_tolerated_failure_goes_back_with_a_dependent_that_did_not_complete():
    assert rerun(tree(root="F", a="f", b="c a?", c="f a?")) == ("root a c", None)


def test_a_tolerated_failure_runs_again_when_it_is_named():
    assert rerun(tree(a="f", b="c a?"), "a") == ("root a", "root a")


def test_a_tolerated_group_stays_with_all_that_is_in_it():
    assert rerun(tree(g="F", a="f /g", b="x /g", c="c g?")) == ("", None)
    assert rerun(tree(g="F", a="f /g", b="x /g", c="c g?"), "a") == ("root g a", "root g a")


def test_a_tolerated_group_goes_back_when_something_outside_needs_what_is_in_it():
    assert rerun(tree(root="F", g="F", a="f /g", b="c g?", c="d a")) == ("root g a c", None)


def test_a_part_runs_with_the_dependencies_that_have_not_completed():
    spec = tree(root="P", a="c", b="f a", c="p b", d="p c", e="p")
    assert rerun(spec, "c") == ("b", "b c")


def test_a_group_that_a_part_depends_on_runs_with_what_it_holds():
    assert rerun(tree(root="P", g="P", a="p /g", b="c /g", c="p g", e="p"), "c") == ("", "g a c")


def test_a_group_that_holds_the_named_task_need_only_start():
    assert rerun(tree(root="P", g="P", a="p /g g", b="p /g"), "a") == ("", "g a")


def test_what_fell_with_a_task_goes_back_with_it():
    assert rerun(tree(root="F", a="f", b="d a", c="d b", e="f"), "a") == ("root a b c", "root a b c")


def test_what_fell_with_two_tasks_waits_for_both_to_go_back():
    assert rerun(tree(root="F", a="f", b="f", c="d a b"), "a") == ("root a", "root a")


def test_what_was_cancelled_on_request_does_not_go_back_with_another():
    tasks = tree(root="F", a="x", b="x a", c="x a")
    tasks[3].cancel_requested_at = NOON
    assert rerun(tasks, "a") == ("root a b", "root a b")


def test_an_ended_group_above_waits_until_everything_else_in_it_has_ended():
    assert rerun(tree(root="P", g="F", a="f /g", b="p /g"), "a") == ("a", "a")


def test_a_pending_group_above_closes_with_the_last_task_in_it():
    assert rerun(tree(root="P", a="c", b="p"), "b") == ("", "root b")
    assert rerun(tree(root="P", a="p", b="p"), "b") == ("", "b")


def test_force_runs_completed_tasks_again_and_everything_that_depends_on_them():
    assert rerun(tree(a="c", b="c a", c="c b?", d="c"), "b", force=True) == ("root b c", "root b c")
    assert rerun(tree(a="c", b="c a"), force=True) == ("root a b", None)


def test_force_reaches_what_depends_on_a_group_that_goes_back():
    assert rerun(tree(g="C", a="c /g", b="c g"), "a", force=True) == ("root g a b", "root g a b")


def test_force_starts_nothing_that_never_ran():
    assert rerun(tree(root="P", a="c", b="p a"), "a", force=True) == ("a", "a")


def test_force_runs_a_tolerated_failure_again():
    assert rerun(tree(a="f", b="c a?"), force=True) == ("root a b", None)


def test_a_dependent_outside_that_would_wait_for_another_is_left_out_of_the_run():
    assert rerun(tree(root="P", a="f", b="d a p?", p="p"), "a") == ("a b", "a")


def test_a_failed_root_with_an_executor_runs_again_without_its_completed_children():
    assert rerun(tree(root="f", a="c")) == ("root", None)


def test_an_unknown_task_is_refused():
    with pytest.raises(NotFoundError):
        plan_rerun(tree(a="c"), "nothing")


def test_a_wide_and_a_deep_tree_are_planned_in_linear_time():
    wide = {f"t{number}": "f" for number in range(10_000)}
    join = "d " + " ".join(wide)
    reset, _ = rerun(tree(root="F", **wide, join=join), "t0")
    assert reset == "root t0"
    assert len(plan_rerun(tree(root="F", **wide, join=join)).reset) == 10_002
    chain = {f"t{at}": f"D /t{at - 1} t{at - 1}" if at else "F" for at in range(30_000)}
    assert len(plan_rerun(tree(root="F", **chain), "t0").reset) == 30_001
    assert len(plan_rerun(tree(root="F", **chain), "t29999").reset) == 30_001
