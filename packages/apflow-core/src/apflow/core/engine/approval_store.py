"""Approvals as records of a store.

An approval that waits has a record of one kind. Its decision is another record, of another kind, with the
same key: of several who decide at once, the one who creates it has decided.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from apflow.core.model.approval import DECIDED_KIND, KIND, Approval, read_approval
from apflow.core.model.task import Task
from apflow.core.store.base import Record, TaskStore
from apflow.core.store.tree_records import keys_of, name_of_task

logger = logging.getLogger(__name__)


async def approval_of(db: TaskStore, task: Task) -> Approval | None:
    """Return the approval that the present execution of a task has asked for; None if it asked for none."""
    key = key_of(task.root_id, task.id, task.generation)
    waiting = await db.record(KIND, key)  # first: it is removed after the decision is stored
    record = await db.record(DECIDED_KIND, key) or waiting
    return None if record is None else read_approval(record.value)


async def decision_of(db: TaskStore, approval: Approval) -> Approval | None:
    """Return an approval with its decision; None while there is none."""
    record = await db.record(DECIDED_KIND, _key(approval))
    return None if record is None else read_approval(record.value)


async def waiting_approvals(db: TaskStore, root_id: str | None = None) -> list[Approval]:
    """Return the approvals that may wait for a decision, of one tree or of all trees.

    The task of some of them may have ended meanwhile.
    """
    return _read(await db.records(KIND, prefix="" if root_id is None else keys_of(root_id)))


async def decided_approvals(db: TaskStore) -> list[Approval]:
    """Return the approvals that were decided."""
    return _read(await db.records(DECIDED_KIND))


async def waiting_of(db: TaskStore, approval: Approval) -> Approval | None:
    """Return an approval as it waits; None if it no longer does."""
    record = await db.record(KIND, _key(approval))
    return None if record is None else read_approval(record.value)


async def add_approval(db: TaskStore, approval: Approval) -> bool:
    """Store an approval that waits, unless it is stored already; return whether this has stored it.

    Raises:
        InvalidInputError: it is too large.
    """
    return await db.put_record(KIND, _key(approval), approval.to_json(), version=0) is not None


async def note_announced(db: TaskStore, approval: Approval) -> None:
    """Record that the event of the question or of the decision is stored."""
    kind = KIND if approval.decision is None else DECIDED_KIND
    await db.put_record(kind, _key(approval), approval.to_json() | {"is_announced": True}, version=1)


async def add_decision(db: TaskStore, approval: Approval) -> Approval:
    """Store the decision of an approval unless there is one; return the approval with the one that stands."""
    written = await db.put_record(DECIDED_KIND, _key(approval), approval.to_json(), version=0)
    stands = approval if written is not None else await decision_of(db, approval) or approval
    await remove_waiting(db, approval)
    return stands


async def remove_waiting(db: TaskStore, approval: Approval) -> None:
    """Remove the record of an approval that no longer waits."""
    await db.remove_record(KIND, _key(approval))


def key_of(root_id: str, task_id: str, generation: int) -> str:
    """Return the key of the records of an approval, which begins as those of its tree do."""
    return f"{keys_of(root_id)}{name_of_task(task_id)}/{generation:09d}"


def _key(approval: Approval) -> str:
    return key_of(approval.root_id, approval.task_id, approval.generation)


def _read(records: Iterable[Record]) -> list[Approval]:
    """Return approvals. Records that this version cannot read are left out, with a warning."""
    found: list[Approval] = []
    for record in records:
        with suppress(KeyError, TypeError, ValueError):
            found.append(read_approval(record.value))
            continue
        logger.warning("Approval %s cannot be read by this version of apflow, and is left out.", record.key)
    return found
