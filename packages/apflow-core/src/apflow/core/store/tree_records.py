"""Records that belong to one tree: they are deleted with it.

The key of such a record begins with `keys_of(root_id)`, and its value has `root_id`. All packages share one
kind, so that a process deletes the records of packages that it has not installed, too.
"""

from __future__ import annotations

import hashlib
from typing import Final

KIND: Final = "tree"  # what follows `keys_of` in a key begins with the name of the package that writes it
MAX_ID_LENGTH: Final = 900  # bytes of an ID that is part of a key; a longer one is hashed


def keys_of(root_id: str) -> str:
    """Return the prefix of the keys of a tree's records; an ID that is too long for a key is hashed."""
    raw = root_id.encode()
    return f"{root_id}/" if len(raw) <= MAX_ID_LENGTH else f"sha256:{hashlib.sha256(raw).hexdigest()}/"


def name_of_task(task_id: str) -> str:
    """Return what stands for a task in the key of a record: of fixed length, and without a slash."""
    return hashlib.sha256(task_id.encode()).hexdigest()[:32]
