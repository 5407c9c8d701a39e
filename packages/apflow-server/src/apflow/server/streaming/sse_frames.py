"""Events as `text/event-stream` writes them (HTML Living Standard, section 9.2). Pure.

Only stored events have an `id`, which is their number, so that a stream can
continue from `Last-Event-ID`; and a snapshot, which replaces all earlier events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from apflow.core.model.event import LIVE, TaskEvent
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps

HEARTBEAT: Final = b":\n\n"
PIECE: Final = 64 << 10  # bytes that are sent at once, unless one event is larger


def frame(event: Mapping[str, Json]) -> bytes:
    """Return an event in the format of the stream."""
    number = b"" if event["type"] in LIVE else b"id: %d\n" % event["sequence"]
    return number + named(str(event["type"]), event)


def named(name: str, data: Json) -> bytes:
    """Return a frame with a custom event name. JSON text contains no newlines."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), dumps(data))


def comment(text: str) -> bytes:
    """Return a line that is for people who look at the stream."""
    return b": %s\n\n" % text.encode()


def pieces(frames: Iterable[bytes], size: int = PIECE) -> Iterator[bytes]:
    """Yield frames joined, so that few and not too large pieces are sent."""
    joined: list[bytes] = []
    length = 0
    for each in frames:
        joined.append(each)
        length += len(each)
        if length >= size:
            yield b"".join(joined)
            joined, length = [], 0
    if joined:
        yield b"".join(joined)


class FrameCache:
    """Frames of stored events, so that each is written out once for all who watch a tree.

    Args:
        size: bytes that it holds at most; one frame may be a hundredth of that.
    """

    def __init__(self, size: int = 8 << 20) -> None:
        self._size = size
        self._held = 0
        # A tree that was deleted and created again counts from 1 again: the time distinguishes its events.
        self._frames: OrderedDict[tuple[str, int, datetime], bytes] = OrderedDict()

    def frame(self, event: TaskEvent) -> bytes:
        """Return an event in the format of the stream."""
        if event.type in LIVE:
            return frame(event.to_dict())
        key = (event.root_task_id, event.sequence, event.timestamp)
        known = self._frames.get(key)
        if known is not None:
            return known
        made = frame(event.to_dict())
        if len(made) <= self._size // 100:
            self._frames[key] = made
            self._held += len(made)
            while self._held > self._size:
                self._held -= len(self._frames.popitem(last=False)[1])
        return made
