"""The outcome of an attempt to deliver an event, and what follows from it. Pure.

Delivery to a receiver that is temporarily unavailable is retried with growing delays; a refusal is not
retried. A webhook ends with the final event of the run, or if its receiver is gone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from apflow.core.errors import AddressRefusedError, SecretRefusedError
from apflow.core.net.retry_after import read_retry_after
from apflow.core.webhooks.webhook import Webhook

MAX_REFUSED: Final = 5  # events in a row
MAX_ERROR_LENGTH: Final = 500  # characters


class LostError(Exception):
    """Another process delivers to the webhook now."""


class DeliveryStatus(Enum):
    """The outcome of an attempt."""

    SENT = auto()
    REFUSED = auto()  # not wanted: the next event may be
    GONE = auto()  # nothing is wanted any more, or may be sent there
    RETRY = auto()


@dataclass(frozen=True)
class DeliveryAttempt:
    """One attempt, judged."""

    status: DeliveryStatus
    problem: str | None = None
    retry_after: float | None = None  # seconds that the receiver asks for


@dataclass(frozen=True)
class Backoff:
    """How long to wait before an event is sent again, in seconds."""

    first: float = 1.0
    factor: float = 4.0
    longest: float = 300.0
    jitter: float = 0.2  # a part of the wait

    def wait(self, failures: int, asked: float | None) -> float:
        """Return the seconds to wait after so many failures, at least as many as were asked for."""
        wait = min(self.longest, self.first * self.factor ** (failures - 1))
        spread = wait * (1 + random.uniform(-self.jitter, self.jitter))  # noqa: S311 - spreads load
        return max(spread, min(asked or 0.0, self.longest))

    def left(self, not_before: datetime, now: datetime) -> float:
        """Return the seconds until a stored moment: never more than a wait can be.

        The moment is that of a wall clock, which may have been set back since.
        """
        seconds = (not_before - now).total_seconds()
        return min(max(0.0, seconds), self.longest * (1 + self.jitter))


def judge_status(status: int, retry_after: str | None, now: datetime) -> DeliveryAttempt:
    """Return what an answer means. A redirect is not followed: it was not what was registered."""
    if 200 <= status < 300:
        return DeliveryAttempt(DeliveryStatus.SENT)
    problem = f"the receiver answered {status}"
    if status == 410:
        return DeliveryAttempt(DeliveryStatus.GONE, problem)
    if status >= 500 or status in (408, 425, 429):
        return DeliveryAttempt(DeliveryStatus.RETRY, problem, read_retry_after(retry_after, now))
    return DeliveryAttempt(DeliveryStatus.REFUSED, problem)


def judge_error(error: Exception) -> DeliveryAttempt:
    """Return what it means that there was no answer."""
    if isinstance(error, AddressRefusedError | SecretRefusedError):
        return DeliveryAttempt(DeliveryStatus.GONE, str(error))
    import httpx  # here: the server must start without waiting for this import

    if isinstance(error, httpx.InvalidURL):
        return DeliveryAttempt(DeliveryStatus.GONE, f"the address cannot be used: {error}")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return DeliveryAttempt(DeliveryStatus.RETRY, "the receiver did not answer in time")
    return DeliveryAttempt(DeliveryStatus.RETRY, str(error) or type(error).__name__)


def after_attempt(
    webhook: Webhook,
    attempt: DeliveryAttempt,
    sequence: int,
    *,
    is_final: bool,
    now: datetime,
    backoff: Backoff,
) -> Webhook:
    """Return a webhook as it is after an attempt to send one event."""
    error = attempt.problem and attempt.problem[:MAX_ERROR_LENGTH]
    match attempt.status:
        case DeliveryStatus.SENT:
            sent = replace(webhook, sent=sequence, failures=0, not_before=None, refused=0, error=None)
            return ended(sent, "done", now) if is_final else sent
        case DeliveryStatus.REFUSED:
            refused = replace(
                webhook,
                sent=sequence,
                failures=0,
                not_before=None,
                refused=webhook.refused + 1,
                error=error,
            )
            if refused.refused >= MAX_REFUSED:
                return ended(refused, "dead", now)
            return ended(refused, "done", now) if is_final else refused
        case DeliveryStatus.GONE:
            return ended(replace(webhook, error=error), "dead", now)
        case DeliveryStatus.RETRY:
            failures = webhook.failures + 1
            failed = replace(webhook, failures=failures, error=error)
            if failures > webhook.max_retries:
                return ended(failed, "dead", now)
            wait = backoff.wait(failures, attempt.retry_after)
            return replace(failed, not_before=(now + timedelta(seconds=wait)).isoformat())


def after_skip(webhook: Webhook, sequence: int, *, is_final: bool, now: datetime) -> Webhook:
    """Return a webhook as it is after an event that it does not want."""
    skipped = replace(webhook, sent=sequence)
    return ended(skipped, "done", now) if is_final else skipped


def ended(webhook: Webhook, status: str, now: datetime) -> Webhook:
    """Return a webhook that is sent nothing more."""
    return replace(
        webhook, status=status, not_before=None, ended_at=now.isoformat(), owner=None, lease_until=None
    )
