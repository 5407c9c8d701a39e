"""Who may decide about an approval. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.model.approval import Approval


def may_decide(approval: Approval, user_id: str | None, roles: Sequence[str], *, is_admin: bool) -> bool:
    """Return whether a caller may decide.

    The users and the roles that the task names may, or else the owner of the task; administrators and the
    owner of the database always may, as they may act for every user.

    Args:
        user_id: the caller; None: the owner of the database.
    """
    if is_admin:
        return True
    if user_id is None:
        return False
    request = approval.request
    if not request.users and not request.roles:
        return user_id == approval.user_id
    return user_id in request.users or not set(request.roles).isdisjoint(roles)


def named_approvers(approval: Approval) -> str:
    """Return who may decide, for people."""
    request = approval.request
    users = [f"user {each!r}" for each in request.users]
    roles = [f"the role {each!r}" for each in request.roles]
    if not users and not roles:
        return "the owner of the task" if approval.user_id is None else f"user {approval.user_id!r}"
    return ", ".join(users + roles)
