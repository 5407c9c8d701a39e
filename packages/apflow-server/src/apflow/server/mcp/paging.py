"""Pages of lists. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from apflow.core.model.task import Json
from apflow.server.mcp.exchange import INVALID_PARAMS, ProtocolError

Item = TypeVar("Item")


def page_of(items: Sequence[Item], cursor: Json, size: int) -> tuple[list[Item], str | None]:
    """Return the page that a cursor names, the first one without, and the cursor of the next page.

    Raises:
        ProtocolError: the cursor is not valid.
    """
    start = 0
    if cursor is not None:
        if not (isinstance(cursor, str) and cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
            raise ProtocolError(INVALID_PARAMS, "The cursor is not valid.")
        start = int(cursor)
    end = start + size
    return list(items[start:end]), str(end) if end < len(items) else None
