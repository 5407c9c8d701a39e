"""What an attempt to tell a webhook means, decided without sending anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from apflow.core.errors import AddressRefusedError, HostNotFoundError
from apflow.core.webhooks.webhook import Webhook
from apflow.server.webhooks.delivery_status import (
    MAX_REFUSED,
    Backoff,
    DeliveryAttempt,
    DeliveryStatus,
    after_attempt,
    judge_error,
    judge_status,
    read_retry_after,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOOK = Webhook(id="w", root_id="r", user_id=None, url="http://x/", created_at="", sent=3, max_retries=2)
PLAIN = Backoff(jitter=0)


def after(webhook: Webhook, status: DeliveryStatus, *, is_final: bool = False) -> Webhook:
    attempt = DeliveryAttempt(status, None if status is DeliveryStatus.SENT else "a problem")
    return after_attempt(webhook, attempt, 4, is_final=is_final, now=NOW, backoff=PLAIN)


SENT, REFUSED, RETRY, GONE = (
    DeliveryStatus.SENT,
    DeliveryStatus.REFUSED,
    DeliveryStatus.RETRY,
    DeliveryStatus.GONE,
)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (200, SENT), (204, SENT), (299, SENT),
        (301, REFUSED), (302, REFUSED), (304, REFUSED), (308, REFUSED),
        (400, REFUSED), (401, REFUSED), (404, REFUSED), (422, REFUSED),
        (408, RETRY), (425, RETRY), (429, RETRY),
        (500, RETRY), (503, RETRY), (599, RETRY), (410, GONE),
    ],
)  # fmt: skip
def test_a_status_means(code: int, status: DeliveryStatus):
    assert judge_status(code, None, NOW).status is status


def test_an_error_means_that_it_is_tried_again_unless_the_address_is_forbidden():
    assert (
        judge_error(AddressRefusedError("h", "127.0.0.1", "a loopback address")).status is DeliveryStatus.GONE
    )
    assert judge_error(HostNotFoundError("h", "no")).status is DeliveryStatus.RETRY
    assert judge_error(httpx.ConnectError("refused")).status is DeliveryStatus.RETRY
    assert judge_error(TimeoutError()).problem == judge_error(httpx.ReadTimeout("")).problem


def test_what_is_sent_is_counted_and_forgets_what_failed():
    sent = after(replace(HOOK, failures=2, refused=4, error="x", not_before="2026"), DeliveryStatus.SENT)
    assert (sent.sent, sent.failures, sent.refused, sent.error, sent.not_before) == (4, 0, 0, None, None)
    assert sent.status == "active"


def test_the_final_event_ends_it():
    for status in (DeliveryStatus.SENT, DeliveryStatus.REFUSED):
        done = after(HOOK, status, is_final=True)
        assert (done.status, done.ended_at, done.sent) == ("done", NOW.isoformat(), 4)


def test_a_failure_waits_longer_each_time_and_at_last_ends_it():
    webhook, waits = HOOK, list[timedelta]()
    while (webhook := after(webhook, DeliveryStatus.RETRY)).status == "active":
        assert webhook.sent == 3
        assert webhook.not_before is not None
        waits.append(datetime.fromisoformat(webhook.not_before) - NOW)
    assert waits == [timedelta(seconds=1), timedelta(seconds=4)]
    assert (webhook.status, webhook.error, webhook.failures) == ("dead", "a problem", 3)


def test_events_that_are_refused_one_after_the_other_end_it():
    webhook = HOOK
    for _ in range(MAX_REFUSED - 1):
        webhook = after(webhook, DeliveryStatus.REFUSED)
        assert webhook.status == "active"
    assert after(webhook, DeliveryStatus.REFUSED).status == "dead"
    assert after(after(webhook, DeliveryStatus.SENT), DeliveryStatus.REFUSED).status == "active"


def test_an_end_frees_it():
    webhook = replace(HOOK, owner="me", lease_until="2027")
    assert after(webhook, DeliveryStatus.GONE).owner is None


def test_a_wait_is_as_long_as_asked_for_but_not_for_ever():
    assert PLAIN.wait(1, 20) == 20
    assert PLAIN.wait(1, 100_000) == 300
    assert PLAIN.wait(20, None) == 300
    assert 0.8 <= Backoff().wait(1, None) <= 1.2


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), ("7", 7), (" 7 ", 7), ("soon", None), ("-1", None), ("9" * 20, None), ("", None),
     ("Thu, 01 Jan 2026 00:00:09 GMT", 9), ("Thu, 01 Jan 1998 00:00:09 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(given: str | None, seconds: float | None):
    assert read_retry_after(given, NOW) == seconds
