"""The executor that asks people for an approval."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from apflow.core.extensions.approval import ask_approval
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.model.approval import MAX_REASON, MAX_TIMEOUT, Approval, ApprovalRequest, OnTimeout
from apflow.core.model.span import SPAN, seconds_of
from apflow.core.payload.approval import describe_decision
from apflow.core.planning.outcome import APPROVAL_REJECTED, APPROVAL_TIMEOUT

MAX_APPROVERS: Final = 1000  # users, and roles
_NAMES: Final = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 255},
    "maxItems": MAX_APPROVERS,
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_REASON,
            "description": "What people are asked.",
            "examples": ["May the release go out?"],
        },
        "data": {
            "description": "JSON to look at before the decision, such as the result of another task.",
            "examples": [{"version": "2.1"}],
        },
        "approvers": {
            "type": "object",
            "properties": {"users": _NAMES, "roles": _NAMES},
            "additionalProperties": False,
            "description": "Who may decide: these users, and users with one of these roles. By default, the "
            "owner of the task. Admins always may.",
            "examples": [{"users": ["ann"], "roles": ["release-manager"]}],
        },
        "form": {
            "type": "object",
            "description": "JSON Schema of the answers that an approval must have; by default, no answers.",
            "examples": [{"properties": {"window": {"type": "string"}}, "required": ["window"]}],
        },
        "timeout": {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT},
                {"type": "string", "pattern": f"^{SPAN.pattern}$"},
                {"type": "null"},
            ],
            "description": "How long to wait, in seconds or as a span such as `12h` or `2d`, counted from "
            "the question. By default, there is no limit.",
            "examples": ["2d"],
        },
        "on_timeout": {
            "type": "string",
            "enum": ["reject", "approve", "fail"],
            "default": "reject",
            "description": "What is decided when the time is over. `fail` decides nothing: the task fails.",
            "examples": ["reject"],
        },
        "on_reject": {
            "type": "string",
            "enum": ["fail", "complete"],
            "default": "fail",
            "description": "What a rejection does: the task fails, or completes with `approved: false`.",
            "examples": ["complete"],
        },
    },
    "required": ["question"],
    # What a task depends on cannot choose who decides. Notes that hooks leave begin with an underscore.
    "x-explicit-only": True,
    "patternProperties": {"^_": {}},
    "additionalProperties": False,
}


class ApprovalExecutor(BaseTask):
    """Asks people for an approval and waits for their decision, also across restarts of its process."""

    id = "approval_executor"
    name = "Approval"
    description = "Asks people for an approval, and waits for their decision without a place among the calls."
    effect = "pure"
    only_waits = True
    inputs_schema: ClassVar[InputsSchema] = SCHEMA

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return `{approved, answers, by, at, reason, timed_out}`; a rejection fails the task by default.

        Raises:
            InvalidInputError: the question is blank, the timeout is too long, or the code runs outside of a
                task.
            ValidationError: the form is not a valid JSON Schema, or its defaults are not enough to approve
                by default when the time is over.
        """
        approval = await ask_approval(_request(inputs))
        assert approval.decision is not None  # `ask_approval` returns with one
        decided = approval.decision.to_json()
        if approval.status == "timed_out":
            return _failure(approval, APPROVAL_TIMEOUT) | decided
        if not approval.decision.is_approved and inputs.get("on_reject") != "complete":
            return _failure(approval, APPROVAL_REJECTED) | decided
        return decided


def _request(inputs: dict[str, Any]) -> ApprovalRequest:
    approvers: dict[str, list[str]] = inputs.get("approvers") or {}
    return ApprovalRequest(
        question=inputs["question"],
        data=inputs.get("data"),
        form=inputs.get("form"),
        users=tuple(approvers.get("users", ())),
        roles=tuple(approvers.get("roles", ())),
        timeout=seconds_of(inputs.get("timeout")),
        on_timeout=OnTimeout(inputs.get("on_timeout", OnTimeout.REJECT)),
    )


def _failure(approval: Approval, error_type: str) -> dict[str, Any]:
    return {"status": "failed", "error_type": error_type, "error": describe_decision(approval)}
