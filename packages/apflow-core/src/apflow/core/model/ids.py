"""New ids, and the ids that an extension may have."""

from __future__ import annotations

import json
import re
import uuid

_NAMESPACE = uuid.UUID("6f0d7f0e-5a36-4b7b-9d0e-3f5b8a7c2d41")  # of ids that are made from keys or other ids

RESERVED = ":"  # what ids begin with that apflow uses for itself
MAX_LENGTH = 255  # characters of an id


def fault_of_extension_id(extension_id: str) -> str | None:
    """Return what is wrong with the id of an executor or another extension, or None if it may be used."""
    if not extension_id.strip():
        return "it is empty"
    if len(extension_id) > MAX_LENGTH:
        return f"it has {len(extension_id)} characters; {MAX_LENGTH} are allowed"
    if not extension_id.isprintable() or extension_id != extension_id.strip():
        return "it has control characters, or begins or ends with a space"
    if extension_id.startswith(RESERVED):
        return f"ids that begin with {RESERVED!r} are reserved for apflow"
    if extension_id == "***":
        return "*** stands for a masked secret"
    return None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_generated(task_id: str) -> bool:
    """Return whether an id has the form of those that apflow makes: a UUID."""
    return _UUID.fullmatch(task_id) is not None


def new_ids(count: int) -> list[str]:
    """Return new random ids: UUIDs of version 4."""
    return [str(uuid.uuid4()) for _ in range(count)]


def ids_of_key(key: str, user_id: str | None, count: int) -> list[str]:
    """Return the ids of the tree that a user's idempotency key stands for: UUIDs of version 5."""
    name = json.dumps([user_id, key])
    return [str(uuid.uuid5(_NAMESPACE, f"{name}:{at}")) for at in range(count)]


class ElementIds:
    """The ids of the tasks that a task with `for_each` creates: UUIDs of version 5, the same each time.

    Args:
        task_id: of the task.
        generation: of the task: an execution that creates its elements again gives them other ids.
    """

    def __init__(self, task_id: str, generation: int) -> None:
        self._namespace = uuid.uuid5(_NAMESPACE, f"{task_id}:{generation}")

    def of(self, index: int, suffix: str) -> str:
        """Return the id of a task of an element; `suffix` distinguishes the tasks of an element."""
        return str(uuid.uuid5(self._namespace, f"{index}{suffix}"))
