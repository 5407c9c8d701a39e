"""One line of the table: a figure and the floor that the same run measured for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A figure beside its floor.

    The floor is what the work costs without apflow above it, so the ratio outlives the machine.
    """

    name: str
    value: float
    floor: float
    unit: str  # "tasks/s" is better when higher, every other unit when lower
    about: str  # what was measured, and what the floor is

    @property
    def ratio(self) -> float:
        """The figure as a multiple of its floor."""
        return self.value / self.floor


def table(lines: Sequence[Line]) -> str:
    """Return the lines as one table of plain text."""
    rows = [("row", "figure", "floor", "ratio", "unit", "what it is")]
    rows += [
        (each.name, number(each.value), number(each.floor), f"{each.ratio:.2f}", each.unit, each.about)
        for each in lines
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(aligned(row, widths) for row in rows)


def aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return one row: name and unit to the left, numbers to the right."""
    name, value, floor, ratio, unit = (
        cell.rjust(width) if 0 < column < 4 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row[:5], widths, strict=True))
    )
    return f"{name}  {value}  {floor}  {ratio}  {unit}  {row[5]}".rstrip()


def number(value: float) -> str:
    """Return a number with three significant digits, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
