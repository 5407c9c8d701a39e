"""SIGKILL at each point between the journal and the database loses and doubles nothing acknowledged."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from apflow.storage.duckdb.journal import journal_of

STORY = Path(__file__).with_name("journal_story.py")
ROUNDS = 12
SOON, NEVER = 0.005, 3600.0  # seconds until a record is applied
PACKAGE = "apflow.storage.duckdb"
POINTS = [
    # The merge checks kill once at each place; `hatch run long` at all points.
    pytest.param(
        f"{PACKAGE}.{place}:{when}:{number}",
        marks=() if (number, when) == (numbers[-1], "after") else pytest.mark.long,
    )
    for place, numbers in (
        ("journal:Journal.create", (1,)),  # a new journal, which the database does not name yet
        ("journal:_connected", (1, 2)),  # a journal that is not complete
        ("journal:remove", (1, 2, 3)),
        ("writer:Writer._mark", (1,)),
        ("journal:Journal.append", (1, 2, 15, 30)),  # stored, and not acknowledged
        ("application:Application.add", (1, 16)),
        ("writing:Writing.write", (2, 9)),  # acknowledged, and being applied
        ("application:Application.note_applied", (1, 5)),  # applied, and not deleted
        ("writer:Writer._end_journal", (1,)),
        ("journal:Journal.remove", (1,)),
    )
    for number in numbers
    for when in ("before", "after")
]
WHILE_OPENING = [
    pytest.param(
        f"{PACKAGE}.recovery:RowWriter.write:{when}:{number}", marks=() if number == 2 else pytest.mark.long
    )
    for number in (1, 2, 3)
    for when in ("before", "after")
] + [
    f"{PACKAGE}.{place}:{when}:1"
    for place in ("recovery:_apply", "journal:Journal.remove")
    for when in ("before", "after")
]


def story(
    file: Path, rounds: int, point: str = "", fault: str = "", seconds: float = SOON
) -> list[list[str]]:
    """Run a process; return what it has acknowledged."""
    command = [sys.executable, str(STORY), str(file), str(rounds), point, fault, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (-signal.SIGKILL if point else 0), done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def faults_of(file: Path, acknowledged: list[list[str]]) -> list[str]:
    """Return what is wrong with a file that no process has open."""
    faults = [f"{each.name} is left" for each in file.parent.iterdir() if ".journal" in each.name]
    last = dict(acknowledged)
    with duckdb.connect(str(file), read_only=True) as connection:
        run = connection.execute
        found = dict(run("SELECT id, status FROM apflow_tasks").fetchall())
        for root, state in last.items():
            here = "removed" if root not in found else found[f"{root}-a"]
            allowed = {
                "pending": {"pending", "in_progress"},
                "in_progress": {"in_progress", "completed"},
                "completed": {"completed", "removed"},
                "removed": {"removed"},
            }
            if here not in allowed[state]:
                faults.append(f"{root} is {here}; acknowledged: {state}")
        for text in (
            "SELECT 'number ' || row_number FROM apflow_tasks GROUP BY row_number HAVING count(*) > 1",
            "SELECT 'position in ' || root_id FROM apflow_tasks GROUP BY root_id, position "
            "HAVING count(*) > 1",
            "SELECT 'events of ' || root_id FROM apflow_events GROUP BY root_id "
            "HAVING sum(last_sequence - first_sequence + 1) <> max(last_sequence) "
            "OR min(first_sequence) <> 1",
            "SELECT 'parts of ' || root_id FROM apflow_tasks GROUP BY root_id HAVING count(*) <> 3",
            "SELECT 'events without a tree: ' || root_id FROM apflow_events "
            "WHERE root_id NOT IN (SELECT id FROM apflow_tasks)",
        ):
            faults += [row[0] for row in run(text).fetchall()]
    return faults


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_loses_and_doubles_nothing(point: str, tmp_path: Path):
    file = tmp_path / "tasks.duckdb"
    acknowledged = story(file, ROUNDS, point)
    story(file, 0)
    assert faults_of(file, acknowledged) == []


@pytest.mark.parametrize("point", WHILE_OPENING)
def test_a_kill_while_the_journal_is_applied_loses_and_doubles_nothing(point: str, tmp_path: Path):
    file = tmp_path / "tasks.duckdb"
    acknowledged = story(file, ROUNDS, f"{PACKAGE}.journal:Journal.append:after:10", seconds=NEVER)
    story(file, 0, point)
    story(file, 0)
    assert faults_of(file, acknowledged) == []


@pytest.mark.parametrize(
    ("fault", "point", "seconds"),
    [
        ("acknowledge_before_the_append", "journal:Journal.append:before:12", NEVER),
        ("apply_twice", "application:Application.note_applied:after:5", SOON),
        ("delete_before_the_application", "journal:Journal.append:after:10", NEVER),
        ("skip_a_record", "journal:Journal.append:after:10", NEVER),
    ],
)
def test_planted_faults_are_found(fault: str, point: str, seconds: float, tmp_path: Path):
    file = tmp_path / "tasks.duckdb"
    acknowledged = story(file, ROUNDS, f"{PACKAGE}.{point}", fault, seconds)
    command = [sys.executable, str(STORY), str(file), "0", "", fault, str(SOON)]
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if again.returncode:  # the next start refuses the file
        assert re.search(r"(StoreDamagedError|StoreError|ConstraintException): ", again.stderr)
    else:
        assert faults_of(file, acknowledged)


def test_without_a_kill_and_a_fault_nothing_is_found(tmp_path: Path):
    file = tmp_path / "tasks.duckdb"
    acknowledged = story(file, ROUNDS)
    assert not journal_of(file).exists()
    assert faults_of(file, acknowledged) == []
    assert sum(state == "completed" for _, state in acknowledged) == 6 * ROUNDS
