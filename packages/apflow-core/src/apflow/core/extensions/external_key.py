"""The idempotency key of a task, as other systems may know it."""

from __future__ import annotations

import hashlib

from apflow.core.extensions.executor import ExecutableTask


def external_key(executor: ExecutableTask) -> str | None:
    """Return the key of the work of an executor for another system; None outside of a run with a key.

    Another system may receive tasks of many databases, and users choose ids: the creation time distinguishes
    tasks with the same id.
    """
    key, task = executor.idempotency_key, executor.stored_task
    if key is None:
        return None
    created = "" if task is None or task.created_at is None else task.created_at.isoformat()
    return hashlib.sha256(f"{key}\n{created}".encode()).hexdigest()
