"""The checks of several workers themselves: made-up histories, and one worker on DuckDB."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apflow.testing.torture.checks import faults, restarts
from apflow.testing.torture.cluster import a_cluster
from apflow.testing.torture.evidence import Evidence
from apflow.testing.torture.trees import make

A, B = 11, 22  # process ids of two workers


def line(kind: str, time: float, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "time": time, **facts}


def body(kind: str, time: float, pid: int, task_id: str, **more: Any) -> dict[str, Any]:
    facts = {"life": pid, "task_id": task_id, "root_id": "r", "generation": 0, "attempt": 1}
    return line(kind, time, **facts, **({"fails": False} if kind == "ended" else {}), **more)


def row(task_id: str, owner: str | None, **more: Any) -> dict[str, Any]:
    plain = {
        "id": task_id,
        "key": task_id,
        "name": task_id,
        "root_id": "r",
        "status": "completed",
        "owner": owner,
    }
    plain |= {"result": {"owner": owner} if owner else None, "error": None, "interruptions": 0}
    return plain | {"run_ended_at": "then", "run_requested_at": None, "last_event": 11} | more


def event(sequence: int, kind: str, task_id: str, result: Any = None) -> dict[str, Any]:
    return {"sequence": sequence, "type": kind, "task_id": task_id, "result": result}


def well() -> Evidence:
    """Return a tree of two tasks: the first was interrupted when its worker A was killed; B ended it."""
    noted = {"schemas": {"method": "noted"}, "parent_id": "r"}
    array = [
        {"id": "r", "name": "r"},
        noted | {"id": "one", "name": "one"},
        noted
        | {"id": "two", "name": "two", "policy": {"effect": "once"}}
        | {"dependencies": [{"id": "one", "required": True}]},
    ]
    owner = f"host:{B}:bits"
    return Evidence(
        arrays={"key": array},
        history=[
            line("acknowledged", 0, key="key", root_id="r"),
            body("started", 1, A, "one"),
            line("killed", 1.5, pid=A),
            body("started", 3.5, B, "one"),
            body("ended", 3.6, B, "one"),
            line("told", 3.7, root_id="r", sequence=8, type="task_completed", task_id="one"),
            body("started", 3.8, B, "two"),
            body("ended", 3.9, B, "two"),
            line("tree_ended", 4, root_id="r"),
        ],
        tasks={"r": row("r", None), "one": row("one", owner, interruptions=1), "two": row("two", owner)},
        events={
            "r": [
                event(1, "task_created", "r"),
                event(2, "task_created", "one"),
                event(3, "task_created", "two"),
                event(4, "tree_started", "r"),
                event(5, "task_started", "one"),
                event(6, "task_reset", "one"),
                event(7, "task_started", "one"),
                event(8, "task_completed", "one", {"owner": owner}),
                event(9, "task_started", "two"),
                event(10, "task_completed", "two", {"owner": owner}),
                event(11, "task_completed", "r"),
                event(12, "tree_completed", "r"),
            ]
        },
        lease=2.0,
    )


def test_a_history_in_which_all_is_well_has_no_faults():
    evidence = well()
    evidence.tasks["r"]["last_event"] = 12
    assert faults(evidence) == {}
    assert restarts(evidence) == [("r", 2.0)]


def test_lists_and_approvals_in_which_all_is_well_break_no_rule_about_them():
    evidence = well()
    add_list(evidence)
    add_approval(evidence)
    assert not faults(evidence).keys() & {"each_item_has_one_element", "each_approval_is_decided_once"}


def lose_a_task(evidence: Evidence) -> None:
    del evidence.tasks["two"]


def create_twice(evidence: Evidence) -> None:
    evidence.tasks["again"] = evidence.tasks["r"] | {"id": "again", "root_id": "again", "name": "r"}
    evidence.events["again"] = evidence.events["r"]


def leave_one_pending(evidence: Evidence) -> None:
    evidence.tasks["two"]["status"] = "pending"


def leave_the_run_open(evidence: Evidence) -> None:
    evidence.tasks["r"]["run_ended_at"] = None


def fail_what_can_complete(evidence: Evidence) -> None:
    evidence.tasks["one"] |= {"status": "failed", "result": {"error_type": "Interrupted"}}


def complete_twice(evidence: Evidence) -> None:
    evidence.events["r"][5]["type"] = "task_completed"


def store_a_late_result(evidence: Evidence) -> None:
    evidence.tasks["one"]["result"] = evidence.events["r"][7]["result"] = {"owner": f"host:{A}:bits"}


def start_before_what_it_needs(evidence: Evidence) -> None:
    history = evidence.history
    history[4], history[6] = history[6], history[4]


def store_a_start_too_early(evidence: Evidence) -> None:
    events = evidence.events["r"]
    events[7], events[8] = events[8] | {"sequence": 8}, events[7] | {"sequence": 9}


def start_without_a_stored_start(evidence: Evidence) -> None:
    evidence.events["r"][4]["type"] = "task_created"


def run_once_twice(evidence: Evidence) -> None:
    evidence.history.insert(8, body("started", 3.95, B, "two"))


def rob_the_living(evidence: Evidence) -> None:
    del evidence.history[2]


def go_on_with_what_was_lost(evidence: Evidence) -> None:
    evidence.history[2] = line("frozen", 1.5, pid=A)
    evidence.history += [line("thawed", 5, pid=A), body("ended", 9, A, "one")]


def count_a_drain(evidence: Evidence) -> None:
    evidence.history[2] = line("drained", 1.5, pid=A)


def skip_a_number(evidence: Evidence) -> None:
    evidence.events["r"][11]["sequence"] = 13


def tell_what_is_not_stored(evidence: Evidence) -> None:
    evidence.history[5]["sequence"] = 7


def rest_too_long(evidence: Evidence) -> None:
    evidence.history[3]["time"] = 6.0


def an_item_without_an_element(evidence: Evidence) -> None:
    add_list(evidence)
    del evidence.tasks["each[1]"]


def an_element_with_the_item_of_another(evidence: Evidence) -> None:
    add_list(evidence)
    for task_id in ("each[0]", "each[1]"):
        evidence.tasks[task_id]["result"] = {"item": 1}
    evidence.tasks["each"]["result"] = [{"item": 1}, {"item": 1}]


def a_result_in_another_order(evidence: Evidence) -> None:
    add_list(evidence)
    evidence.tasks["each"]["result"].reverse()


def add_list(evidence: Evidence) -> None:
    """Add a list of two items, which has completed."""
    for_each = {"items": [0, 1]}
    evidence.arrays["key"].append(
        {"id": "each", "name": "each", "parent_id": "r", "schemas": {"method": "noted"}, "for_each": for_each}
    )
    results = [{"item": 0}, {"item": 1}]
    evidence.tasks["each"] = row("each", None, result=list(results), policy={"for_each": for_each})
    for at, result in enumerate(results):
        evidence.tasks[f"each[{at}]"] = row(f"each[{at}]", None, parent_id="each", name="each", result=result)


def an_approval_that_still_waits(evidence: Evidence) -> None:
    add_approval(evidence)
    evidence.approvals[0]["decision"] = None


def an_approval_that_is_asked_twice(evidence: Evidence) -> None:
    add_approval(evidence)
    evidence.approvals.append(evidence.approvals[0])


def an_acknowledged_decision_that_does_not_stand(evidence: Evidence) -> None:
    add_approval(evidence)
    evidence.history.append(line("decided", 3, task_id="ask", decision={"approved": False}))


def a_task_that_goes_on_with_another_decision(evidence: Evidence) -> None:
    add_approval(evidence)
    evidence.tasks["ask"]["result"] = {"decision": {"approved": False}}


def a_decision_that_is_told_twice(evidence: Evidence) -> None:
    add_approval(evidence)
    evidence.events["r"].append(evidence.events["r"][-1] | {"sequence": 15})


def add_approval(evidence: Evidence) -> None:
    """Add a task that waited for an approval, and has completed."""
    evidence.arrays["key"].append(
        {"id": "ask", "name": "ask", "parent_id": "r", "schemas": {"method": "asking"}}
    )
    decision = {"approved": True}
    evidence.tasks["ask"] = row("ask", None, result={"decision": decision})
    evidence.approvals.append({"task_id": "ask", "decision": decision})
    evidence.events["r"] += [
        event(13, "approval_requested", "ask"),
        event(14, "approval_decided", "ask") | {"data": decision},
    ]
    evidence.history.append(line("decided", 2, task_id="ask", decision=decision))


def leave_a_process(evidence: Evidence) -> None:
    evidence.left = ["process 5 still runs"]


SPOILT: list[tuple[Callable[[Evidence], None], str]] = [
    (lose_a_task, "nothing_acknowledged_is_lost"),
    (create_twice, "nothing_is_submitted_twice"),
    (leave_one_pending, "everything_ends"),
    (leave_the_run_open, "everything_ends"),
    (fail_what_can_complete, "what_can_complete_completes"),
    (complete_twice, "each_ends_once"),
    (store_a_late_result, "what_is_stored_is_its_owners"),
    (start_before_what_it_needs, "bodies_start_after_what_they_need"),
    (store_a_start_too_early, "starts_follow_stored_ends"),
    (start_without_a_stored_start, "bodies_start_after_their_stored_start"),
    (run_once_twice, "once_means_at_most_once"),
    (rob_the_living, "nothing_living_is_robbed"),
    (go_on_with_what_was_lost, "work_that_was_lost_is_ended"),
    (count_a_drain, "a_drain_interrupts_nothing"),
    (skip_a_number, "numbers_have_no_gaps"),
    (tell_what_is_not_stored, "what_is_told_is_stored"),
    (rest_too_long, "work_goes_on_after_a_kill"),
    (an_item_without_an_element, "each_item_has_one_element"),
    (an_element_with_the_item_of_another, "each_item_has_one_element"),
    (a_result_in_another_order, "each_item_has_one_element"),
    (an_approval_that_still_waits, "each_approval_is_decided_once"),
    (an_approval_that_is_asked_twice, "each_approval_is_decided_once"),
    (an_acknowledged_decision_that_does_not_stand, "each_approval_is_decided_once"),
    (a_task_that_goes_on_with_another_decision, "each_approval_is_decided_once"),
    (a_decision_that_is_told_twice, "each_approval_is_decided_once"),
    (leave_a_process, "nothing_is_left"),
]


@pytest.mark.parametrize(("spoil", "check"), SPOILT)
def test_each_fault_of_a_history_is_noticed(spoil: Callable[[Evidence], None], check: str):
    evidence = copy.deepcopy(well())
    evidence.tasks["r"]["last_event"] = 12
    spoil(evidence)
    assert check in faults(evidence)


def test_one_worker_on_duckdb_that_is_killed_three_times_ends_what_it_began(tmp_path: Path):
    url = f"duckdb:///{tmp_path / 'store.duckdb'}"
    with a_cluster(tmp_path, url, environment={"FAULTS_WATCH": "1"}) as cluster:
        for number in range(2):
            cluster.submit(f"tree{number}", make(f"tree{number}", str(number), 100))
            cluster.wait_for("acknowledged", key=f"tree{number}")
        cluster.stop()  # the submitter: one process at a time
        for _ in range(3):
            after = cluster.seen()
            cluster.start_worker(0)
            cluster.wait_for("started", after=after)
            cluster.kill(0)
        cluster.start_worker(0)
        assert cluster.wait_for_ends(), cluster.log()
        cluster.stop()
        assert faults(cluster.evidence(url)) == {}
