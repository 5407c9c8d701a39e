"""Splits text that arrives in pieces into lines. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A line without its end. `omitted` characters that followed are not in it."""

    text: str
    omitted: int = 0


class LineBuffer:
    """The unfinished line of one stream.

    A carriage return starts the line again, as on a terminal, so that a progress bar leaves one line.

    Args:
        limit: characters of a line that are kept.
    """

    __slots__ = ("_is_returned", "_kept", "_limit", "_omitted")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = ""
        self._omitted = 0
        self._is_returned = False  # the next character starts the line again

    def add(self, text: str) -> list[Line]:
        """Add text and return the lines that it finishes."""
        if "\n" not in text:
            self._keep(text)
            return []
        *finished, last = text.split("\n")
        lines: list[Line] = []
        for part in finished:
            self._keep(part)
            lines.append(self._take())
        self._keep(last)
        return lines

    def rest(self) -> list[Line]:
        """Return the unfinished line, if there is one, and forget it."""
        return [self._take()] if self._kept else []

    def _keep(self, text: str) -> None:
        if not text:
            return
        if self._is_returned and text.strip("\r"):
            self._kept, self._omitted, self._is_returned = "", 0, False
        if "\r" in text:
            visible = text.rstrip("\r")
            self._is_returned = len(visible) < len(text)
            _, mark, text = visible.rpartition("\r")
            if mark:
                self._kept, self._omitted = "", 0
        room = self._limit - len(self._kept)
        self._kept += text[:room]
        self._omitted += max(0, len(text) - room)

    def _take(self) -> Line:
        line = Line(self._kept, self._omitted)
        self._kept, self._omitted, self._is_returned = "", 0, False
        return line
