"""The database of a campaign is a new one, and the verdict names each rule that is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apflow.core.errors import InvalidInputError
from apflow.testing.torture.checks import CHECKS
from apflow.testing.torture.evidence import Evidence
from apflow.testing.torture.place import own_place
from apflow.testing.torture.verdict import ADVICE, verdict_on


def test_a_campaign_has_a_new_file_beside_the_database_and_removes_it(tmp_path: Path):
    database = tmp_path / "tasks.duckdb"
    database.write_bytes(b"not even a database")
    with own_place(f"duckdb:///{database}") as place:
        file = Path(place.shown)
        assert (file.parent, place.is_shared, place.url) == (tmp_path, False, f"duckdb:///{file}")
        assert file.name.startswith("tasks.torture-")
        file.write_text("x")
        file.with_name(f"{file.name}.wal").write_text("x")
    assert [each.name for each in tmp_path.iterdir()] == ["tasks.duckdb"]
    assert database.read_bytes() == b"not even a database"


def test_what_is_kept_stays(tmp_path: Path):
    with own_place(f"duckdb:///{tmp_path}/tasks.duckdb") as place:
        Path(place.shown).write_text("x")
        place.is_kept = True
    assert Path(place.shown).exists()


@pytest.mark.parametrize("url", ["memory://", "duckdb:///:memory:", "mysql://h/d"])
def test_a_database_that_no_campaign_can_use_is_refused(url: str):
    with pytest.raises(InvalidInputError, match="needs a DuckDB file or PostgreSQL"), own_place(url):
        pass


def test_a_file_in_a_missing_directory_is_refused(tmp_path: Path):
    url = f"duckdb:///{tmp_path}/a/b.duckdb"
    with pytest.raises(InvalidInputError, match="does not exist"), own_place(url):
        pass


def evidence(**more: Any) -> Evidence:
    given: dict[str, Any] = {"arrays": {}, "history": [], "tasks": {}, "events": {}, "lease": 2.0}
    return Evidence(**(given | more))


def test_a_verdict_without_faults_names_each_rule():
    verdict = verdict_on(evidence(), "s")
    lines = list(verdict.lines())
    assert verdict.is_good
    assert lines[-1] == f"All {len(CHECKS)} rules hold."
    assert sum(line.startswith("ok ") for line in lines) == len(CHECKS)


def test_a_broken_rule_has_its_findings_and_is_not_good():
    verdict = verdict_on(evidence(left=[f"process {number} still runs" for number in range(7)]), "s")
    lines = list(verdict.lines())
    assert not verdict.is_good
    assert "FAIL  No process, connection or temporary file outlives the campaign." in lines
    assert ("      process 4 still runs" in lines, "      and 2 more" in lines) == (True, True)
    assert lines[-1] == f"1 of {len(CHECKS)} rules do not hold."
    [broken] = [each for each in verdict.to_dict()["rules"] if each["findings"]]
    assert (broken["name"], len(broken["findings"])) == ("nothing_is_left", 7)


def test_a_campaign_that_did_not_end_is_not_good():
    verdict = verdict_on(evidence(), "s", failure="Trees have not ended.")
    assert not verdict.is_good
    assert "FAIL  The campaign did not end: Trees have not ended." in list(verdict.lines())


def test_advice_is_about_rules_that_exist():
    assert ADVICE.keys() <= {check.__name__ for check in CHECKS}


def test_a_worker_that_was_too_slow_for_its_leases_may_lose_its_trees_and_the_verdict_says_so():
    start = {"kind": "started", "task_id": "a", "root_id": "r", "generation": 0, "attempt": 1}
    bodies = [start | {"life": 1, "time": 0.0}, start | {"life": 2, "time": 3.0}]
    held_up = {"kind": "held_up", "pid": 1, "time": 3.5}
    for history, is_robbed in ((bodies, True), ([*bodies, held_up], False)):
        verdict = verdict_on(evidence(history=history), "s")
        assert ("nothing_living_is_robbed" in {each.name for each in verdict.broken}) is is_robbed
        assert any("too slow to renew its leases" in line for line in verdict.lines()) is not is_robbed
