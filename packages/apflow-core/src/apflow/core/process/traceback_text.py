"""The traceback of an error of users' code: without frames of apflow's core, with causes and source lines."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from traceback import FrameSummary, StackSummary, TracebackException
from typing import Final

MAX_TRACEBACK: Final = 12_000  # characters that are stored
MAX_FRAMES: Final = 100  # of one exception: the innermost ones
MAX_CAUSES: Final = 10  # in one chain

_CORE: Final = f"{Path(__file__).parents[1]}{os.sep}"
# Frames of these packages that the core has entered are part of how it calls users' code.
_LIBRARIES: Final = tuple(
    f"{Path(traceback.__file__).parent / each}{os.sep}" for each in ("asyncio", "concurrent")
)


def users_traceback(error: BaseException) -> str | None:
    """Return the traceback of an error, with its causes, as Python prints it.

    Frames of apflow's core are left out.

    Returns:
        None if the error and its causes have no other frames.
    """
    try:
        shown = TracebackException.from_exception(error, limit=-MAX_FRAMES, lookup_lines=False, compact=True)
        if not _leave_out_core(shown):
            return None
        return "".join(shown.format()).rstrip()
    except BaseException as unreadable:  # noqa: BLE001 - attributes of the error are users' code
        return f"(The traceback cannot be shown: {type(unreadable).__name__})"


def shortened(text: str, length: int) -> str:
    """Return a string of at most `length` characters: the middle of a longer one is left out."""
    if len(text) <= length:
        return text
    mark = f"\n... {len(text) - length:,} characters are left out ...\n"
    head = (length - len(mark)) // 3
    return text[:head] + mark + text[head + len(mark) - length :]


def is_core(filename: str) -> bool:
    """Return whether a file is a module of apflow's core."""
    return filename.startswith(_CORE)


def users_frames(stack: Iterable[FrameSummary]) -> list[FrameSummary]:
    """Return the frames without those of the core, and of libraries through which the core calls code."""
    kept: list[FrameSummary] = []
    is_inside = True  # the core has entered the frame
    for frame in stack:
        is_inside = is_core(frame.filename) or (is_inside and frame.filename.startswith(_LIBRARIES))
        if not is_inside:
            kept.append(frame)
    return kept


def _leave_out_core(shown: TracebackException) -> bool:
    """Remove frames of the core from an error and its causes; return whether others are left."""
    has_frames = False
    for each in _linked(shown):
        frames = users_frames(each.stack)
        has_frames = has_frames or bool(frames)
        # Without a stack, only the line with the type and the message is printed.
        each.stack = StackSummary.from_list(frames) if frames else None  # type: ignore[assignment]
    return has_frames


def _linked(shown: TracebackException) -> Iterator[TracebackException]:
    """Yield an error, the members of groups, and the causes, of which those beyond the limit are removed."""
    waiting = [(shown, 1)]
    while waiting:
        each, depth = waiting.pop()
        yield each
        if depth == MAX_CAUSES:
            each.__cause__ = each.__context__ = None
        linked = [each.__cause__, each.__context__, *(each.exceptions or ())]
        waiting += ((one, depth + 1) for one in linked if one is not None)
