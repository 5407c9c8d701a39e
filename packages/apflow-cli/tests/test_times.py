from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from apflow.cli.display.times import age, clock, duration, local, span

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3 * 3600, "3h"),
        (10 * 86400, "10d"),
        (30 * 86400, "4w"),
    ],
)
def test_an_age_has_one_unit(seconds: float, shown: str):
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0.0s"),
        (0.04, "0.0s"),
        (9.4, "9.4s"),
        (12.9, "12s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (273600, "3d04h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, shown: str):
    assert span(seconds) == shown


def test_a_task_that_runs_has_run_until_now():
    started = (NOW - timedelta(seconds=65)).isoformat()
    task = {"status": "in_progress", "started_at": started, "completed_at": None}
    assert duration(task, NOW) == "1m05s"
    assert duration(task | {"status": "pending"}, NOW) == "", "its earlier run ended with its process"
    assert duration(task | {"started_at": None}, NOW) == ""
    assert duration(task | {"completed_at": started}, NOW) == "0.0s"


def test_times_are_local_and_name_their_zone():
    zone = timezone(timedelta(hours=1), "CET")
    assert local("2026-11-29T12:00:00.123456+00:00", zone) == "2026-11-29 13:00:00 CET"
    assert clock("2026-11-29T23:30:00.123456+00:00", zone) == "00:30:00.123+0100"
    assert local(None) == ""
