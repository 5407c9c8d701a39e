"""An approval: what a task asks people, and what they decide. Plain data.

Times are aware datetimes in UTC. `permissions.approvers` says who may decide, `engine.approvals` stores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, cast

from apflow.core.model.task import Json, to_json

# Kinds of records; those of decided approvals are separate, so that a list of what waits does not read them.
KIND: Final = "approval"
DECIDED_KIND: Final = "approval.decided"

MAX_REASON: Final = 10_000  # characters
MAX_TIMEOUT: Final = 3_153_600_000  # seconds: 100 years


class OnTimeout(StrEnum):
    """What is decided when the time of an approval is over."""

    REJECT = "reject"
    APPROVE = "approve"
    FAIL = "fail"  # nothing: the task fails with another error type


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """What a task asks.

    Attributes:
        question: for people.
        data: JSON to look at before the decision.
        form: a JSON Schema of the answers that an approval comes with; None: it has no answers.
        users: who may decide, besides those who have one of `roles`. If both are empty, the owner of the
            task may.
        timeout: seconds until `on_timeout` decides; None: no limit.
    """

    question: str
    data: Json = None
    form: dict[str, Json] | None = None
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    timeout: float | None = None
    on_timeout: OnTimeout = OnTimeout.REJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, by whom, when and why."""

    is_approved: bool
    by: str | None  # the user; None: the owner of the database, or the time was over
    at: datetime
    reason: str | None = None
    answers: dict[str, Json] = field(default_factory=dict[str, Json])
    is_timeout: bool = False  # the time was over

    def to_json(self) -> dict[str, Json]:
        """Return the decision as JSON, which `read_approval` reads."""
        return {
            "approved": self.is_approved,
            "by": self.by,
            "at": to_json(self.at),
            "reason": self.reason,
            "answers": self.answers,
            "timed_out": self.is_timeout,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval that one execution of a task has asked for, and its decision."""

    task_id: str
    root_id: str
    generation: int  # of the task: each re-execution asks again
    name: str  # of the task
    user_id: str | None  # the owner of the task
    request: ApprovalRequest
    asked_at: datetime
    decision: Decision | None = None
    is_announced: bool = False  # the event of the question, or of the decision, is stored

    @property
    def deadline(self) -> datetime | None:
        """When the time is over; None if it never is."""
        seconds = self.request.timeout
        return None if seconds is None else self.asked_at + timedelta(seconds=seconds)

    @property
    def status(self) -> str:
        """`open`, `approved`, `rejected`, or `timed_out` if nothing is decided when the time is over."""
        if self.decision is None:
            return "open"
        if self.decision.is_timeout and self.request.on_timeout is OnTimeout.FAIL:
            return "timed_out"
        return "approved" if self.decision.is_approved else "rejected"

    def is_over(self, now: datetime) -> bool:
        """Whether the time for a decision is over."""
        return self.deadline is not None and now >= self.deadline

    def decided(self, decision: Decision) -> Approval:
        """Return the approval with its decision, whose event is not stored yet."""
        return replace(self, decision=decision, is_announced=False)

    def question_json(self) -> dict[str, Json]:
        """Return the question as JSON. `data` is as the task gave it: mask it where it is shown."""
        request = self.request
        return {
            "question": request.question,
            "data": request.data,
            "form": request.form,
            "approvers": {"users": list(request.users), "roles": list(request.roles)},
            "asked_at": to_json(self.asked_at),
            "deadline": to_json(self.deadline),
            "on_timeout": str(request.on_timeout),
        }

    def to_json(self) -> dict[str, Json]:
        """Return the approval as JSON, which `read_approval` reads."""
        plain = {each.name: to_json(getattr(self, each.name)) for each in fields(self)}
        request = {each.name: _json(getattr(self.request, each.name)) for each in fields(self.request)}
        decision = None if self.decision is None else self.decision.to_json()
        return plain | {"request": request, "decision": decision}


def read_approval(stored: Mapping[str, Json]) -> Approval:
    """Return an approval from its JSON; fields that this version does not know are ignored.

    Raises:
        KeyError, TypeError, ValueError: the JSON is not that of an approval.
    """
    values = {each.name: stored[each.name] for each in fields(Approval) if each.name in stored}
    given = cast("dict[str, Json]", stored["request"])
    request = {each.name: given[each.name] for each in fields(ApprovalRequest) if each.name in given}
    request["users"], request["roles"] = tuple(request["users"]), tuple(request["roles"])
    request["on_timeout"] = OnTimeout(request["on_timeout"])
    values["request"] = ApprovalRequest(**request)
    values["asked_at"] = datetime.fromisoformat(values["asked_at"])
    decision = cast("dict[str, Json] | None", stored["decision"])
    if decision is not None:
        values["decision"] = Decision(
            is_approved=decision["approved"],
            by=decision["by"],
            at=datetime.fromisoformat(decision["at"]),
            reason=decision["reason"],
            answers=decision["answers"],
            is_timeout=decision["timed_out"],
        )
    return Approval(**values)


def _json(value: Json) -> Json:
    if isinstance(value, tuple):
        return list(cast("tuple[Json, ...]", value))
    return str(value) if isinstance(value, StrEnum) else value
