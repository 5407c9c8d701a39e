"""Captures what the code of tasks writes to `sys.stdout` and `sys.stderr`.

Both are replaced by objects that pass everything on, and add to the log of the task what its code writes. By
default, that also reaches the original stream. Programs whose output is data say where it goes instead.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO, cast

from apflow.core.capture.task_log import TaskLog, current_log


class Writes(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object:
        """Write text."""
        ...


NOWHERE: Final = "nowhere"
_echo: Writes | str | None = None  # None: the original stream


@contextmanager
def echoing_to(stream: Writes | None) -> Generator[None]:
    """Send what tasks write to a stream instead of the original one; None: only to the log."""
    global _echo
    before, _echo = _echo, NOWHERE if stream is None else stream
    try:
        yield
    finally:
        _echo = before


def install() -> None:
    """Wrap both streams, if they are not wrapped yet."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and type(stream) is not TaskStream:
            setattr(sys, name, TaskStream(stream, name))


class TaskStream:
    """The stream for text that captures what tasks write. All else is that of the stream it wraps."""

    def __init__(self, stream: TextIO, source: str) -> None:
        self._stream, self._source = stream, source

    def write(self, text: Any) -> int:
        """Write text; return the number of characters."""
        log = current_log.get()
        if log is None or log.is_closed:
            return self._stream.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() takes a string, not {type(text).__name__}")
        with _captured(log, text, self._source) as echo:
            if echo is None:
                self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for each in lines:
            self.write(each)

    @property
    def buffer(self) -> Any:
        """The binary stream below; what tasks write there is captured, too."""
        return _TaskBuffer(cast("Any", self._stream).buffer, self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __enter__(self) -> TaskStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def __repr__(self) -> str:
        return f"<TaskStream of {self._stream!r}>"


class _TaskBuffer:
    """The binary stream of a `TaskStream`."""

    def __init__(self, buffer: Any, source: str) -> None:
        self._buffer, self._source = buffer, source

    def write(self, data: Any) -> int:
        log = current_log.get()
        if log is None or log.is_closed:
            return int(self._buffer.write(data))
        raw = bytes(data)
        with _captured(log, raw.decode("utf-8", "replace"), self._source) as echo:
            if echo is None:
                self._buffer.write(raw)
        return len(raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)


@contextmanager
def _captured(log: TaskLog, text: str, source: str) -> Generator[Writes | str | None]:
    """Add text to a log and to the stream of `echoing_to`, and yield that; None: the original stream."""
    token = current_log.set(None)  # what the streams below write is not captured again
    try:
        log.write(text, source)
        if _echo is not None and not isinstance(_echo, str):
            _echo.write(text)
        yield _echo
    finally:
        current_log.reset(token)
