"""What an approval asks, checked; its answers, its default decision, and what was decided in words. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from apflow.core.errors import InvalidInputError, ValidationError
from apflow.core.model.approval import MAX_TIMEOUT, Approval, ApprovalRequest, Decision, OnTimeout
from apflow.core.model.task import Json
from apflow.core.payload.json_value import copy_json
from apflow.core.payload.schema import check_schema, compile_schema
from apflow.core.permissions.approvers import named_approvers


def check_request(request: ApprovalRequest) -> None:
    """Check that a request can be asked.

    Raises:
        InvalidInputError: the question is blank, or the timeout is not positive or more than 100 years.
        ValidationError: the form is not a valid JSON Schema, or its defaults are not enough to approve by
            default when the time is over.
    """
    if not request.question.strip():
        raise InvalidInputError("An approval needs a question.")
    if request.timeout is not None and not 0 < request.timeout <= MAX_TIMEOUT:
        raise InvalidInputError(
            "The timeout of an approval must be a positive number of seconds, at most 100 years. Leave it "
            "out for no limit."
        )
    if request.form is None:
        return
    check_schema(request.form)
    if request.timeout is not None and request.on_timeout is OnTimeout.APPROVE:
        try:
            checked_answers(request.form, {})
        except ValidationError as error:
            message = (
                "The form cannot be filled by its defaults, so that on_timeout cannot approve: "
                f"{'; '.join(error.violations)}"
            )
            raise ValidationError(message, [f"form: {each}" for each in error.violations]) from error


def checked_answers(form: dict[str, Json] | None, answers: dict[str, Json]) -> dict[str, Json]:
    """Return the answers of a form with its defaults filled in.

    Raises:
        ValidationError: the answers break the form, or there is no form.
    """
    if form is None:
        if answers:
            raise ValidationError(
                "The approval has no form, so that it takes no answers.", ["answers: there is no form"]
            )
        return {}
    filled = cast("dict[str, Json]", copy_json(answers))
    schema = compile_schema(form)
    if schema is None:
        return filled
    schema.fill_defaults(filled)
    return cast("dict[str, Json]", schema.validate(filled, "answers"))


def default_decision(request: ApprovalRequest, now: datetime) -> Decision:
    """Return what is decided when the time of an approval is over."""
    is_approved = request.on_timeout is OnTimeout.APPROVE
    return Decision(
        is_approved=is_approved,
        by=None,
        at=now,
        reason=f"There was no decision within {request.timeout:g} s.",
        answers=checked_answers(request.form, {}) if is_approved else {},
        is_timeout=True,
    )


def describe_decision(approval: Approval) -> str:
    """Return a decision as a sentence: "User 'bob' has rejected it: too expensive"."""
    decision = approval.decision
    if decision is None:
        return f"It waits for the approval of {named_approvers(approval)}."
    if decision.is_timeout:
        done = {"approved": "is approved", "rejected": "is rejected", "timed_out": "is not decided"}
        return f"{decision.reason} It {done[approval.status]}."
    who = "The owner of the database" if decision.by is None else f"User {decision.by!r}"
    said = f": {decision.reason}" if decision.reason else "."
    return f"{who} has {approval.status} it{said}"
