"""New ids, many at a time."""

from __future__ import annotations

import os


def new_ids(count: int) -> list[str]:
    """Return new random ids in the form of UUIDs of version 4, many at a time."""
    raw = os.urandom(16 * count).hex()
    ids: list[str] = []
    for at in range(0, 32 * count, 32):
        variant = "89ab"[int(raw[at + 16], 16) & 3]
        parts = raw[at : at + 8], raw[at + 8 : at + 12], "4" + raw[at + 13 : at + 16]
        ids.append(f"{'-'.join(parts)}-{variant}{raw[at + 17 : at + 20]}-{raw[at + 20 : at + 32]}")
    return ids
