from __future__ import annotations

from datetime import UTC, datetime

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task
from apflow.core.planning.explain import Explanation, explain

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def task(name: str, *needs: str, status: str = "pending", **more: object) -> Task:
    fields: dict[str, object] = {"parent_id": None if name == "root" else "root"} | more
    dependencies = [{"id": each, "required": True} for each in needs]
    return Task(
        id=name, name=name, root_id="root", status=TaskStatus(status), dependencies=dependencies, **fields
    )


def why(name: str, *tasks: Task, is_driven: bool = False) -> Explanation:
    return explain(tasks, name, is_driven=is_driven, is_known=lambda executor: executor != "strange")


def test_a_task_of_a_tree_without_an_owner_can_be_executed():
    found = why("a", task("root"), task("a"))
    assert found.reasons == ["No run of its tree is requested."]
    assert found.advice == ["apflow tasks execute root"]


def test_a_waiting_task_names_what_it_waits_for():
    root = task("root", run_requested_at=NOON)
    found = why(
        "b",
        root,
        task("a", status="in_progress"),
        task("c", status="completed"),
        task("b", "a", "c"),
        is_driven=True,
    )
    assert found.reasons == ["It waits for 'a' (in_progress)."]


def test_a_ready_task_waits_for_a_slot():
    found = why("a", task("root", run_requested_at=NOON), task("a"), is_driven=True)
    assert found.reasons == ["It is ready and waits for a free slot."]


def test_a_task_outside_the_scope_of_the_run_is_left_out():
    root = task("root", run_requested_at=NOON, run_scope=["b"])
    found = why("a", root, task("a"), task("b"), is_driven=True)
    assert found.reasons[0] == "The requested run leaves it out."


def test_an_unknown_executor_is_named_with_what_to_try():
    found = why("a", task("root"), task("a", schemas={"method": "strange"}))
    assert "No executor 'strange' is known here." in found.reasons
    assert "apflow tasks execute a --import MODULE" in found.advice


def test_a_tree_that_a_dead_process_left_can_be_resumed():
    found = why("a", task("root", run_requested_at=NOON), task("a", status="in_progress", attempts=1))
    assert found.reasons == ["No process runs its tree now: its last one ended early."]
    assert found.advice == ["apflow tasks resume root"]


def test_a_task_between_two_attempts_says_when_the_next_begins():
    a = task("a", status="in_progress", attempts=1, not_before=NOON)
    found = why("a", task("root", run_requested_at=NOON), a, is_driven=True)
    assert found.reasons == ["It waits for attempt 2, at 12:00:00 UTC."]


def test_a_group_names_what_it_waits_for():
    group = task("root", status="in_progress", executor=GROUP, run_requested_at=NOON)
    tasks = [task(f"t{number}") for number in range(7)]
    found = why("root", group, *tasks, is_driven=True)
    assert found.reasons[0].endswith("'t3' (pending), 't4' (pending) and 2 more.")


def test_a_failed_task_tells_its_error_and_kind():
    failed = task("a", status="failed", error="no route", result={"error_type": "ConnectError"}, attempts=3)
    found = why("a", task("root", status="failed"), failed)
    assert found.reasons[:3] == [
        "It failed: no route",
        "The kind of error is ConnectError.",
        "It was tried 3 times.",
    ]
    assert found.advice == ["apflow tasks execute a"]


def test_a_requested_cancellation_is_reported():
    a = task("a", status="in_progress", cancel_requested_at=NOON, attempts=1)
    found = why("a", task("root", run_requested_at=NOON), a, is_driven=True)
    assert found.reasons[0].startswith("Its cancellation is requested")


def test_a_completed_task_needs_no_advice():
    assert why("a", task("root"), task("a", status="completed")) == Explanation(["It completed."], [])
