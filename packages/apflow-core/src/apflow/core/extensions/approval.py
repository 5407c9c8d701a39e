"""How the code of a task asks people for an approval."""

from __future__ import annotations

import asyncio

from apflow.core.errors import InvalidInputError
from apflow.core.extensions.running_call import current_call
from apflow.core.model.approval import Approval, ApprovalRequest
from apflow.core.model.task import utc_now


async def ask_approval(request: ApprovalRequest) -> Approval:
    """Ask for the approval of the task whose executor calls this, and wait for the decision.

    Meanwhile, the task holds no place among the executor calls. A task asks once: after a crash, and in
    another attempt of the same execution, the first question stands, with its deadline, and its decision.
    Outside of a task, there is no process to ask: the default decision follows after the timeout.

    Returns:
        the approval with its `decision`.

    Raises:
        InvalidInputError: the question is blank, or too large to be stored; the timeout is not positive; or
            there is none, and the code runs outside of a task.
        ValidationError: the form is not a valid JSON Schema, or its defaults are not enough to approve by
            default when the time is over.
        ConflictError: the task has ended.
    """
    call = current_call.get()
    return await (_default(request) if call is None else call.ask_approval(request))


async def _default(request: ApprovalRequest) -> Approval:
    from apflow.core.payload.approval import check_request, default_decision  # they load jsonschema_rs

    check_request(request)
    if request.timeout is None:
        raise InvalidInputError(
            "ask_approval() was called outside of a task and without a timeout. Call it in the code of an "
            "executor while its task runs."
        )
    asked_at = utc_now()
    await asyncio.sleep(request.timeout)
    return Approval(
        task_id="",
        root_id="",
        generation=0,
        name="",
        user_id=None,
        request=request,
        asked_at=asked_at,
        decision=default_decision(request, utc_now()),
    )
