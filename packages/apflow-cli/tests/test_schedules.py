"""`apflow schedules`."""

from __future__ import annotations

import json
from typing import Any

TREE = json.dumps([{"name": "add", "inputs": {"a": 1, "at": {"$run": "scheduled_at"}}}])
NIGHTLY = ("--cron", "30 2 * * 1-5", "--timezone", "Europe/Berlin", "--name", "nightly")


def test_a_schedule_is_created_shown_changed_and_deleted(apflow: Any):
    made = apflow("schedules", "create", "--tasks", TREE, *NIGHTLY, "--jitter", "30s", "--overlap", "queue")
    assert made.returncode == 0
    assert "No worker starts what is due" in made.stderr
    [listed] = apflow.json("schedules", "list")["schedules"]
    assert (listed["name"], listed["status"], listed["overlap"]) == ("nightly", "active", "queue")
    titles, row = apflow("schedules", "list").stdout.splitlines()
    assert titles.split()[:4] == ["ID", "NAME", "STATUS", "DUE"]
    assert "30 2 * * 1-5 Europe/Berlin" in row
    times = apflow("schedules", "next", "nightly", "-n", "3").stdout.splitlines()
    assert len(times) == 3
    assert {each[10:19] for each in times} == {"T02:30:00"}
    triggered = apflow("schedules", "trigger", listed["id"][:8]).stdout.strip()
    shown = apflow.json("schedules", "show", "nightly")["schedule"]
    assert [each["task_id"] for each in shown["runs"]] == [triggered]
    assert shown["tasks"] == json.loads(TREE)
    inputs = apflow.json("tasks", "get", triggered)["task"]["inputs"]
    assert inputs == {"a": 1, "at": shown["runs"][0]["scheduled_at"]}
    update = ("schedules", "update", "nightly")
    changed = apflow.json(*update, "--every", "2h", "--clear", "jitter", "--start", "2090-01-01T08:00")[
        "schedule"
    ]
    assert (changed["cron"], changed["every"], changed["jitter"]) == (None, "2h", None)
    assert (
        changed["start"] == changed["next_due"] == "2090-01-01T07:00:00+00:00"
    )  # in the zone of the schedule
    other = json.dumps([{"name": "add", "inputs": {"a": 2}}])
    assert apflow(*update, "--tasks", other).returncode == 0
    assert apflow.json("schedules", "show", "nightly")["schedule"]["tasks"] == json.loads(other)
    nothing = apflow(*update)
    assert (nothing.returncode, "Nothing to change" in nothing.stderr) == (2, True)
    assert apflow.json("schedules", "pause", "nightly")["schedule"]["status"] == "paused"
    assert apflow.json("schedules", "resume", "nightly")["schedule"]["status"] == "active"
    assert apflow("schedules", "delete", "nightly").returncode == 0
    missing = apflow("schedules", "show", "nightly")
    assert (missing.returncode, "There is no schedule 'nightly'" in missing.stderr) == (3, True)


def test_a_time_without_an_offset_is_in_the_zone_of_the_schedule(apflow: Any):
    (apflow.folder / "tree.yaml").write_text("name: add\ninputs: {a: 1}\n")
    zone = ("--timezone", "America/New_York")
    given = ("schedules", "create", "-f", "tree.yaml", *zone, "--at")
    assert apflow.json(*given, "2090-12-24T18:00")["schedule"]["at"] == "2090-12-24T23:00:00+00:00"
    assert apflow.json(*given, "2090-12-24T18:00Z")["schedule"]["at"] == "2090-12-24T18:00:00+00:00"


def test_a_schedule_that_cannot_work_is_refused(apflow: Any):
    for given, fault in (
        (("--tasks", TREE, "--at", "tomorrow"), "not a time"),
        (("--tasks", TREE, "--at", "2090-01-01", "--timezone", "Berlin"), "time zone is not known"),
        (("--tasks", '[{"name": "a"}, {"name": "b"}]', "--every", "1h"), "A schedule has one tree"),
    ):
        done = apflow("schedules", "create", *given)
        assert done.returncode == 2
        assert fault in done.stderr
