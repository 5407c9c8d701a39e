"""Tables that fit a width: columns are cut, wrapped at words, or left out. No terminal in here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
MIN_FLEXIBLE = 12  # characters that a column keeps that is cut
MAX_WORD = 30  # characters of a word that a wrapped column does not break


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    is_flexible: bool = False  # its text may be cut or wrapped
    rank: int = 0  # the columns of the highest rank are left out first if there is no room; 0: never
    is_wrapped: bool = False  # its text is wrapped instead of cut
    needs_value: bool = False  # it is left out if no row has a value


Row = Sequence[str]
Line = list[tuple[int, str]]  # index of a column, padded text


def width_of(text: str) -> int:
    """Return how many columns of a terminal a string fills."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # here: most text is ASCII

    return cell_len(text)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """Return a string that fits a width, cut after a word if one ends in the second half."""
    if width_of(text) <= width:
        return text
    room = max(0, width - width_of(ellipsis))
    kept = _head(text, room)
    space = kept.rfind(" ")
    if space >= room // 2 and text[len(kept) : len(kept) + 1] not in ("", " "):
        kept = kept[:space]
    return (kept.rstrip() + ellipsis)[:width]


def _head(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    kept = text[:width]
    while width_of(kept) > width:
        kept = kept[:-1]
    return kept


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[tuple[int, int]]:
    """Return the columns that are shown, each with its width.

    The table is wider than `width` if even the least widths of the columns that are always shown exceed it.
    """
    natural = [
        max([len(column.title), *(width_of(row[at]) for row in rows)]) for at, column in enumerate(columns)
    ]
    least = [
        min(natural[at], _least(column, [row[at] for row in rows])) if column.is_flexible else natural[at]
        for at, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    while True:
        room = width - len(GAP) * (len(shown) - 1)
        leavable = [at for at in shown if columns[at].rank]
        if room >= sum(least[at] for at in shown) or not leavable:
            break
        shown.remove(max(leavable, key=lambda at: columns[at].rank))
    _shrink(least, [at for at in shown if columns[at].is_flexible], sum(least[at] for at in shown) - room)
    more = _shared([natural[at] - least[at] for at in shown], room - sum(least[at] for at in shown))
    return [(at, least[at] + extra) for at, extra in zip(shown, more, strict=True)]


def _least(column: Column, cells: Sequence[str]) -> int:
    """Return the least width of a flexible column: that of its title and, if it wraps, of its words."""
    words = [width_of(word) for cell in cells for word in cell.split()] if column.is_wrapped else []
    longest = min(MAX_WORD, max(words, default=0)) if column.is_wrapped else MIN_FLEXIBLE
    return max(len(column.title), longest)


def _shrink(least: list[int], flexible: Sequence[int], excess: int) -> None:
    """Take what is too much from the widest columns, as far as they can give: their long words are broken."""
    for _ in range(excess):
        widest = max(flexible, key=lambda at: least[at], default=None)
        if widest is None or least[widest] <= MIN_FLEXIBLE:
            return
        least[widest] -= 1


def _shared(wanted: Sequence[int], room: int) -> list[int]:
    """Share room among columns: those that want little get it, the others the same."""
    given = [0] * len(wanted)
    left = max(0, room)
    for rank, at in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        given[at] = min(wanted[at], left // (len(wanted) - rank))
        left -= given[at]
    return given


def lines(columns: Sequence[Column], rows: Sequence[Row], width: int, ellipsis: str = "…") -> Iterator[Line]:
    """Yield the lines of a table: its titles, then those of each row."""
    shown = fit(columns, rows, width)
    yield _padded([(at, size, columns[at].title) for at, size in shown])
    for row in rows:
        yield from _row_lines(columns, row, shown, ellipsis)


def _row_lines(
    columns: Sequence[Column], row: Row, shown: Sequence[tuple[int, int]], ellipsis: str
) -> Iterator[Line]:
    parts = {
        at: wrapped(row[at], size) if columns[at].is_wrapped else [cut(row[at], size, ellipsis)]
        for at, size in shown
    }
    for number in range(max(map(len, parts.values()))):
        cells = [(at, size, parts[at][number] if number < len(parts[at]) else "") for at, size in shown]
        yield _padded(cells)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a string: broken between words, and inside only of a word that fills a line."""
    return textwrap.wrap(text, max(1, width), break_on_hyphens=False) or [""]


def _padded(cells: Sequence[tuple[int, int, str]]) -> Line:
    last = len(cells) - 1
    return [
        (at, text if number == last else text + " " * (size - width_of(text)))
        for number, (at, size, text) in enumerate(cells)
    ]
