"""Operations on approvals: what tasks ask people, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from apflow.core.authoring.task_path import find_by_path
from apflow.core.engine.approval_store import approval_of, decided_approvals, decision_of
from apflow.core.engine.approvals import decide, open_approvals, why_closed
from apflow.core.errors import (
    ApprovalClosedError,
    ApprovalNotFoundError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from apflow.core.model.approval import MAX_REASON, Approval, Decision
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Json, Task, utc_now
from apflow.core.payload.approval import checked_answers, describe_decision
from apflow.core.payload.secrets import mask
from apflow.core.permissions.approvers import may_decide, named_approvers
from apflow.core.service.access import Access, may_see

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import Positive, Reason, TaskId


class ApprovalService(Access):
    """What one caller may do with approvals: those of its tasks, and those that it may decide."""

    async def approvals(
        self,
        *,
        status: Annotated[
            Literal["open", "decided", "all"],
            Field(description="Which approvals: those that wait for a decision, those decided, or both."),
        ] = "open",
        limit: Annotated[
            Positive | None, Field(description="The maximum number of approvals to return.")
        ] = 1000,
    ) -> list[dict[str, Json]]:
        """Return the approvals of the caller's tasks and those that it may decide.

        Those that wait come first, the oldest first; then those that are decided, the latest first.
        """
        found = [] if status == "decided" else await self._open()
        if status != "open":
            decided = [each for each in await decided_approvals(self.db) if self._sees(each)]
            found += sorted(decided, key=_decided_at, reverse=True)
        return [self._shown(each, each.status) for each in found[:limit]]

    async def approval(self, task_id: TaskId) -> dict[str, Json]:
        """Return the approval that a task has asked for, with its decision.

        Raises:
            NotFoundError: there is no such task, or the caller may see neither it nor its approval.
            ApprovalNotFoundError: the task has asked for no approval.
        """
        task, approval = await self._approval(task_id)
        is_closed = approval.decision is None and (
            task.status in TERMINAL or task.cancel_requested_at is not None
        )
        return self._shown(approval, "closed" if is_closed else approval.status)

    async def approve(
        self,
        task_id: TaskId,
        *,
        answers: Annotated[
            Mapping[str, Json] | None, Field(description="Answers of the form, as an object.")
        ] = None,
        reason: Reason = None,
    ) -> dict[str, Json]:
        """Approve what a task asks. It continues.

        Raises:
            NotFoundError: there is no such task, or the caller may see neither it nor its approval.
            ApprovalNotFoundError: the task has asked for no approval.
            ForbiddenError: the caller may not decide.
            InvalidInputError: the reason is too long.
            ApprovalClosedError: it is decided, its time is over, or its task has ended.
            ValidationError: the answers break the form.
        """
        task, approval = await self._to_decide(task_id)
        given = checked_answers(approval.request.form, dict(answers or {}))
        return await self._decide(task, approval, is_approved=True, answers=given, reason=reason)

    async def reject(self, task_id: TaskId, *, reason: Reason = None) -> dict[str, Json]:
        """Reject what a task asks. It fails, unless its inputs say that it completes.

        Raises:
            NotFoundError: there is no such task, or the caller may see neither it nor its approval.
            ApprovalNotFoundError: the task has asked for no approval.
            ForbiddenError: the caller may not decide.
            InvalidInputError: the reason is too long.
            ApprovalClosedError: it is decided, its time is over, or its task has ended.
        """
        task, approval = await self._to_decide(task_id)
        return await self._decide(task, approval, is_approved=False, answers={}, reason=reason)

    async def _open(self) -> list[Approval]:
        """Return the approvals that the caller sees and that wait for a decision, the oldest first."""
        waiting = [each for each in await open_approvals(self.db) if self._sees(each)]
        return sorted(waiting, key=lambda each: (each.asked_at, each.task_id))

    async def _approval(self, task_id: str) -> tuple[Task, Approval]:
        """Return a task and its approval, if the caller may see one of them."""
        task = (await self.db.get([task_id])).get(task_id)
        if task is None and "/" in task_id:
            task = await find_by_path(self.db, task_id, None if self.is_admin else self.user_id)
        approval = None if task is None else await approval_of(self.db, task)
        if task is None or not (may_see(self, task.user_id) or (approval and self._may_decide(approval))):
            raise NotFoundError(task_id)
        if approval is None:
            raise ApprovalNotFoundError(task_id)
        return task, approval

    async def _to_decide(self, task_id: str) -> tuple[Task, Approval]:
        """Return a task and its approval, which the caller may decide now."""
        task, approval = await self._approval(task_id)
        if not self._may_decide(approval):
            raise ForbiddenError(f"Only {named_approvers(approval)} or an admin may decide.")
        closed = why_closed(task, approval, utc_now())
        if closed is not None:
            raise ApprovalClosedError(task.id, closed)
        return task, approval

    async def _decide(
        self,
        task: Task,
        approval: Approval,
        *,
        is_approved: bool,
        answers: dict[str, Json],
        reason: str | None,
    ) -> dict[str, Json]:
        if reason is not None and len(reason) > MAX_REASON:
            raise InvalidInputError(f"reason: give at most {MAX_REASON:,} characters.")
        decision = Decision(
            is_approved=is_approved, by=self.user_id, at=utc_now(), reason=reason or None, answers=answers
        )
        decided = await decide(self.db, task, approval, decision)
        if decided is None:
            first = await decision_of(self.db, approval) or approval
            raise ApprovalClosedError(task.id, describe_decision(first))
        return self._shown(decided, decided.status)

    def _may_decide(self, approval: Approval) -> bool:
        roles = self.author.roles if self.author is not None else ()
        return may_decide(approval, self.user_id, roles, is_admin=self.is_admin)

    def _sees(self, approval: Approval) -> bool:
        return may_see(self, approval.user_id) or self._may_decide(approval)

    def _shown(self, approval: Approval, status: str) -> dict[str, Json]:
        return {
            "task_id": approval.task_id,
            "root_task_id": approval.root_id,
            "name": approval.name,
            "user_id": approval.user_id,
            "status": status,
            **approval.question_json(),
            "data": mask(approval.request.data),
            "may_decide": self._may_decide(approval),
            "decision": None if approval.decision is None else mask(approval.decision.to_json()),
        }


def _decided_at(approval: Approval) -> datetime:
    return approval.asked_at if approval.decision is None else approval.decision.at
