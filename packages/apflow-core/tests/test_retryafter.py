from datetime import UTC, datetime

import pytest

from apflow.core.net.retry_after import read_retry_after


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30),
        ("Wed, 01 Jan 2025 00:00:30 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_seconds_and_dates_are_read_and_nothing_else(text: str | None, seconds: float | None):
    assert read_retry_after(text, datetime(2026, 1, 1, tzinfo=UTC)) == seconds
