"""How events are written, and that what is written once serves everybody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from apflow.core.model.event import EventType, TaskEvent
from apflow.server.streaming.sse_frames import FrameCache, comment, frame, named, pieces


def event(number: int, kind: EventType = EventType.TASK_STARTED, **more: Any) -> TaskEvent:
    return TaskEvent(
        type=kind,
        task_id="t",
        root_task_id="r",
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        sequence=number,
        **more,
    )


def test_a_stored_event_has_its_number_as_id_and_its_type_as_name():
    lines = frame(event(7, message="a\nb\r\n").to_dict()).decode().split("\n")
    assert lines[:2] == ["id: 7", "event: task_started"]
    assert lines[2].startswith('data: {"type":"task_started"')
    assert lines[3:] == ["", ""]


def test_a_live_event_has_no_id():
    assert not frame(event(7, EventType.PROGRESS).to_dict()).startswith(b"id:")


def test_something_else_has_a_name_of_its_own_and_no_id():
    assert named("answer", {"a": 1}) == b'event: answer\ndata: {"a":1}\n\n'
    assert comment("bye") == b": bye\n\n"


def test_pieces_are_joined_up_to_a_size():
    assert list(pieces([b"aa", b"b", b"cccc", b"d"], 3)) == [b"aab", b"cccc", b"d"]
    assert list(pieces([])) == []


def test_a_cached_frame_is_the_same_bytes_and_one_of_another_time_is_not():
    cache = FrameCache()
    assert cache.frame(event(1)) is cache.frame(event(1))
    later = event(1)
    later.timestamp = datetime(2026, 1, 2, tzinfo=UTC)
    assert cache.frame(later) != cache.frame(event(1))


def test_a_cache_holds_no_more_than_its_size():
    cache = FrameCache(size=100_000)
    first = cache.frame(event(1))
    for number in range(2, 2000):
        cache.frame(event(number))
    assert cache.frame(event(1)) is not first
    assert sum(map(len, cache._frames.values())) == cache._held <= 100_000
    large = event(9, message="x" * 2000)
    assert cache.frame(large) is not cache.frame(large)
