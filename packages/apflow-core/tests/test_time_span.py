from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apflow.core.errors import InvalidInputError
from apflow.core.service.time_span import read_since, start_of


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5d", timedelta(hours=36)),
        (" 1d ", timedelta(days=1)),
    ],
)
def test_a_span_ends_now(text: str, span: timedelta):
    before = datetime.now(UTC)
    found = read_since(text)
    assert before - span <= found <= datetime.now(UTC) - span


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-27", datetime(2026, 11, 27, tzinfo=UTC)),
        ("2026-11-27T08:30", datetime(2026, 11, 27, 8, 30, tzinfo=UTC)),
        ("2026-11-27T08:30+01:00", datetime(2026, 11, 27, 7, 30, tzinfo=UTC)),
        ("999999999w", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_converted_to_utc(text: str, time: datetime):
    assert read_since(text) == time


@pytest.mark.parametrize("text", ["", "yesterday", "1", "d", "-1d", "1y", "2026-13-01", "20261127", "1d!"])
def test_anything_else_is_refused_with_examples(text: str):
    with pytest.raises(InvalidInputError, match="30m, 12h, 7d"):
        read_since(text)


def test_the_later_of_two_starts_counts():
    early, late = datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)
    assert start_of("2021-01-01", early) == late
    assert start_of("2020-01-01", late) == late
    assert start_of(None, early) == early
    assert start_of(None) is None
