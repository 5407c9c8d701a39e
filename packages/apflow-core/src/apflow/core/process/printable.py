"""Text for terminals and text logs: what would control a terminal, or look like another line, is escaped.

Names, ids, errors and other text from tasks may hold any character. Files, JSON and the database keep them
unchanged.
"""

from __future__ import annotations

import logging
import re
from typing import Final

LOG_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"

# C0 and C1 controls, DEL, line and paragraph separators, lone surrogates, and invisible characters that
# change the direction or the look of the text around them. The joiners that scripts and emoji need stay.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_A_LINE = re.compile(f"[{_UNSAFE}]")
_IN_LINES = re.compile(f"(?![\n\t])[{_UNSAFE}]")
_IN_JSON = re.compile(f"(?![\n])[{_UNSAFE}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str, *, keeps_lines: bool = False) -> str:
    """Return text that no terminal takes for a command.

    Args:
        keeps_lines: line feeds and tabs stay; otherwise the text is one line.
    """
    return (_IN_LINES if keeps_lines else _IN_A_LINE).sub(_escaped, text)


def printable_json(text: str) -> str:
    """Return JSON that means the same and that no terminal takes for a command."""
    return _IN_JSON.sub(_escaped_in_json, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def _escaped_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


class TextFormatter(logging.Formatter):
    """Formats a record as one line; the lines of a traceback follow, indented."""

    def __init__(self, line_format: str = LOG_FORMAT) -> None:
        super().__init__(line_format)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        return printable(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        first, *more = super().format(record).split("\n")
        return "\n".join([first, *(f"  {printable(line)}" for line in more)])
