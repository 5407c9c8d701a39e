"""What the code of an attempt saves for the attempt that continues its work.

The state is a record of the tree. Its key names the execution and the number of the attempt: an attempt that
is interrupted has the same number as the one that follows it, and a retry has the next number. So a retry
begins without a state, and so does a task that is executed again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from functools import partial

from apflow.core.engine.nesting import NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.errors import ConflictError
from apflow.core.model.task import Json, Task
from apflow.core.payload.json_value import copy_json
from apflow.core.payload.secrets import redact
from apflow.core.store.base import Record
from apflow.core.store.tree_records import KIND, keys_of, name_of_task


class SavedState:
    """The state of one attempt.

    Args:
        secrets: of the attempt; they are masked in what is stored.
    """

    def __init__(self, context: NestingContext, task: Task, secrets: Sequence[str]) -> None:
        self._store, self._task, self._secrets = context.driver.store, task, secrets
        self._key = _key_of(task)
        self._patiently = Patience(f"Task {task.id}", context.patience)
        self._lock = asyncio.Lock()
        self._record: Record | None = None  # as this process has read or written it
        self._is_read = False
        self._writer, self._writes = uuid.uuid4().hex, 0  # they tell what this process has written

    async def load(self) -> Json:
        """Return what this attempt, or the interrupted one before it, saved last; None for nothing."""
        async with self._lock:
            await self._read()
            return None if self._record is None else copy_json(self._record.value["state"])

    async def save(self, state: Json) -> None:
        """Store the state, durably, in place of the one before; None removes it.

        Raises:
            InvalidInputError: it is not JSON, or too large.
            ConflictError: another process runs the task meanwhile.
        """
        async with self._lock:
            await self._read()
            if state is None:
                await self._remove()
            else:
                await self._write(redact(copy_json(state), self._secrets))

    async def _read(self) -> None:
        if not self._is_read:
            self._record = await self._patiently(partial(self._store.record, KIND, self._key))
            self._is_read = True

    async def _write(self, state: Json) -> None:
        self._writes += 1
        by = f"{self._writer}:{self._writes}"
        value = {"root_id": self._task.root_id, "task_id": self._task.id, "state": state, "by": by}
        version = 0 if self._record is None else self._record.version
        put = partial(self._store.put_record, KIND, self._key, value, version=version)
        written: Record | None = await self._patiently.surely(put)
        if written is None:  # the answer of the store to the same write may have been lost
            written = await self._patiently.surely(partial(self._store.record, KIND, self._key))
            if written is None or written.value["by"] != by:
                raise ConflictError(f"Task {self._task.id!r} cannot save its state: another process runs it.")
        self._record = written

    async def _remove(self) -> None:
        if self._record is not None:
            remove = partial(self._store.remove_record, KIND, self._key, version=self._record.version)
            await self._patiently.surely(remove)
            self._record = None


def _key_of(task: Task) -> str:
    name = name_of_task(task.id)
    return f"{keys_of(task.root_id)}apflow-core/state/{name}/{task.generation}/{task.attempts}"
