"""A worker is killed with `kill -9`; another one opens the file and ends what it began."""

import os
import random
from pathlib import Path
from time import perf_counter

import pytest
from faultkit.checks import Evidence, check_everything
from faultkit.driver import PATIENCE, loaded, next_life, recovered, start
from faultkit.trees import LAST, RETRYING, ROOT, TARGET
from faultkit.worker import Work

SEED = int(os.environ.get("APFLOW_FAULT_SEED", "2026"))
TASKS = 2000
SHORT = 5
LONG = 50


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


@pytest.fixture(scope="module")
def length(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the seconds of a run that nobody kills."""
    worker = start(Work(str(tmp_path_factory.mktemp("whole")), life=1, size=TASKS))
    worker.wait_for("running")
    begin = perf_counter()
    assert worker.ends_within(PATIENCE)
    return perf_counter() - begin


def killed_at_random(number: int, length: float, folder: Path, *, again: bool = False) -> None:
    moments = random.Random(f"{SEED}/{number}")
    work = Work(str(folder), life=1, size=TASKS, cancel_after=moments.randrange(TASKS, 3 * TASKS))
    kill_within(work, moments.random() * length)
    if again:
        work = next_life(work)
        kill_within(work, moments.random() * length)
    check_everything(recovered(work))


def kill_within(work: Work, seconds: float) -> None:
    worker = start(work)
    worker.wait_for("running")
    if not worker.ends_within(seconds):
        worker.kill()


def seeded(numbers: range) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", numbers, ids=lambda number: f"seed-{SEED}-{number}")


@seeded(range(SHORT))
def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path, length: float, number: int):
    killed_at_random(number, length, tmp_path)


def test_killed_again_while_it_recovers_nothing_is_lost(tmp_path: Path, length: float):
    killed_at_random(SHORT, length, tmp_path, again=True)


@pytest.mark.faults
@seeded(range(SHORT, SHORT + LONG))
def test_killed_at_many_moments_nothing_is_lost(tmp_path: Path, length: float, number: int):
    killed_at_random(number, length, tmp_path, again=number % 5 == 0)
