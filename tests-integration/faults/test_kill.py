"""A worker is killed with `kill -9`; another one opens the file and ends what it began."""

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faultkit.checks import Evidence, check_everything, each_element_exists_once, elements_of
from faultkit.driver import loaded, next_life, recovered, start
from faultkit.trees import FAN, LAST, RETRYING, ROOT, TARGET
from faultkit.worker import Work

SEED = int(os.environ.get("APFLOW_FAULT_SEED", "2026"))
TASKS = 2000
SHORT = 5
LONG = 50
LINES = 4 * TASKS  # of history, without a kill: called, hooked, and the events of the start and of the end


def killed_at(point: str, folder: Path) -> Evidence:
    work = Work(str(folder), life=1, point=point)
    worker = start(work)
    worker.wait_for("stopped")
    worker.kill()
    evidence = recovered(work)
    check_everything(evidence)
    return evidence


def test_killed_when_created_it_waits_until_somebody_runs_it(tmp_path: Path):
    evidence = killed_at("created", tmp_path)
    assert evidence.before("called") == []
    untouched = loaded(tmp_path / "recovered.json")
    assert {task["status"] for task in untouched["tasks"].values()} == {"pending"}
    assert evidence.status(ROOT) == "completed"


def test_killed_when_the_run_is_requested_it_runs_after_the_restart(tmp_path: Path):
    evidence = killed_at("run_requested", tmp_path)
    assert evidence.before("called") == []
    assert evidence.found["tasks"][ROOT]["run_requested_at"] is not None
    assert evidence.status(ROOT) == "completed"


def test_killed_when_in_progress_and_not_yet_called_the_task_is_called_after_the_restart(tmp_path: Path):
    evidence = killed_at("in_progress_before_call", tmp_path)
    assert evidence.found_status(TARGET) == "in_progress"
    assert (evidence.calls_before(TARGET), evidence.calls_after(TARGET)) == (0, 1)


def test_killed_during_the_call_the_task_is_called_again(tmp_path: Path):
    evidence = killed_at("in_progress_during_call", tmp_path)
    assert (evidence.calls_before(TARGET), evidence.calls_after(TARGET)) == (1, 1)
    ended = evidence.ended["tasks"][TARGET]
    assert (ended["status"], ended["interruptions"], ended["attempts"]) == ("completed", 1, 1)


def test_killed_when_returned_and_not_committed_the_task_is_called_again(tmp_path: Path):
    evidence = killed_at("returned_not_committed", tmp_path)
    assert evidence.found_status(TARGET) == "in_progress"
    assert (evidence.calls_before(TARGET), evidence.calls_after(TARGET)) == (1, 1)


def test_killed_when_completed_and_its_hook_not_called_the_task_is_not_called_again(tmp_path: Path):
    evidence = killed_at("completed_before_its_hook", tmp_path)
    assert evidence.found_status(TARGET) == "completed"
    assert evidence.calls(TARGET) == 1
    assert evidence.calls(LAST) == 1


def test_killed_while_it_waits_for_a_retry_the_task_keeps_its_attempts(tmp_path: Path):
    evidence = killed_at("waiting_for_a_retry", tmp_path)
    ended = evidence.ended["tasks"][RETRYING]
    assert (ended["status"], ended["attempts"], ended["interruptions"]) == ("completed", 2, 0)
    assert (evidence.calls_before(RETRYING), evidence.calls_after(RETRYING)) == (1, 1)


def test_killed_when_a_cancel_is_requested_the_task_is_cancelled_after_the_restart(tmp_path: Path):
    evidence = killed_at("cancel_requested", tmp_path)
    assert evidence.found_status(TARGET) == "in_progress"
    assert evidence.status(TARGET) == "cancelled"
    assert evidence.status(LAST) == "cancelled"
    assert evidence.status(ROOT) == "cancelled"


def test_killed_when_the_last_child_is_done_the_group_is_closed_after_the_restart(tmp_path: Path):
    evidence = killed_at("last_child_done", tmp_path)
    assert evidence.found_status(LAST) == "completed"
    assert evidence.before("called") == evidence.lines("called")


@pytest.mark.parametrize(
    "point", ["tree_ended_before_its_final_event", "final_event_before_its_hook", "tree_hook_called"]
)
def test_killed_while_the_tree_ends_it_ends_with_one_final_event_and_its_hook(tmp_path: Path, point: str):
    evidence = killed_at(point, tmp_path)
    assert evidence.calls(TARGET) == 1
    assert evidence.status(ROOT) == "completed"


def killed_at_random(number: int, folder: Path, *, again: bool = False) -> Evidence:
    moments = random.Random(f"{SEED}/{number}")
    lines = moments.randrange(LINES)
    work = Work(str(folder), life=1, size=TASKS, cancel_after=moments.randrange(2 * TASKS))
    kill_after(work, lines, moments)
    if again:
        work = next_life(work)
        kill_after(work, moments.randrange(1 + (LINES - lines) // 2), moments)
    evidence = recovered(work)
    check_everything(evidence)
    return evidence


def kill_after(work: Work, lines: int, moments: random.Random) -> None:
    """Kill a worker a little after it has written so many lines: anywhere within the commits that follow."""
    worker = start(work)
    worker.wait_for("running")
    worker.wait_for_lines(lines)
    worker.kill_after(moments.uniform(0, 0.02))


def seeded(numbers: range) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", numbers, ids=lambda number: f"seed-{SEED}-{number}")


@seeded(range(SHORT))
def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path, number: int):
    killed_at_random(number, tmp_path)


def test_killed_again_while_it_recovers_nothing_is_lost(tmp_path: Path):
    killed_at_random(SHORT, tmp_path, again=True)


@pytest.mark.faults
@seeded(range(SHORT, SHORT + LONG))
def test_killed_at_many_moments_nothing_is_lost(tmp_path: Path, number: int):
    killed_at_random(number, tmp_path, again=number % 5 == 0)


@pytest.mark.parametrize(
    ("count", "share"),
    [
        (200, 0.0),  # about when the elements are created
        (1_000, 0.5),
        pytest.param(10_000, 0.0, marks=pytest.mark.faults),
        pytest.param(10_000, 0.5, marks=pytest.mark.faults),
    ],
)
def test_killed_while_a_list_runs_each_of_its_elements_ends_once(tmp_path: Path, count: int, share: float):
    moments = random.Random(f"{SEED}/{count}/{share}")
    work = Work(str(tmp_path), life=1, fan=count)
    kill_after(work, 6 + int(4 * count * share), moments)
    evidence = recovered(work)
    check_everything(evidence)
    each_element_exists_once(evidence, count)
    assert evidence.found_status(FAN) != "completed"
    if share:
        assert 0 < sum(each["status"] == "completed" for each in elements_of(evidence.found)) < count


def test_a_lost_change_a_second_run_and_a_revival_are_noticed(tmp_path: Path):
    """The checks themselves: each is shown a fault that it must not let pass."""
    evidence = killed_at("returned_not_committed", tmp_path)
    told = evidence.before("told")[-1]
    again = {"kind": "called", "life": 2, "task_id": "first"}
    lost = [event for event in evidence.found["events"] if event["sequence"] != told["sequence"]]
    finals = [*evidence.ended["events"], {**evidence.ended["events"][-1], "sequence": 99}]
    for fault in (
        replace(evidence, found={**evidence.found, "events": lost}),
        replace(evidence, history=[*evidence.history, again]),
        replace(evidence, history=[*evidence.history, {**again, "kind": "hooked"}]),
        replace(evidence, ended={**evidence.ended, "events": finals}),
        replace(evidence, ended=with_field(evidence.ended, LAST, "status", "in_progress")),
        replace(evidence, ended=with_field(evidence.ended, ROOT, "run_ended_at", None)),
        replace(evidence, found=with_field(evidence.found, TARGET, "status", "cancelled")),
    ):
        with pytest.raises(AssertionError):
            check_everything(fault)


def with_field(dump: dict[str, Any], task_id: str, field: str, value: Any) -> dict[str, Any]:
    return {**dump, "tasks": {**dump["tasks"], task_id: {**dump["tasks"][task_id], field: value}}}
