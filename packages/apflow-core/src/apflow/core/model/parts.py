"""Splitting items into parts of a limited size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def parts(items: Iterable[T], size: Callable[[T], int], most: int, count: int) -> Iterator[list[T]]:
    """Split items into parts of at most `count` items and, unless one alone is larger, a limited size."""
    part: list[T] = []
    held = 0
    for item in items:
        added = size(item)
        if part and (held + added > most or len(part) >= count):
            yield part
            part, held = [], 0
        part.append(item)
        held += added
    if part:
        yield part
