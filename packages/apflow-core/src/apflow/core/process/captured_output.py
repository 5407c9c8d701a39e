"""What a program or a peer says, kept as far as there is room for it."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field

TAIL_BYTES = 4096
CUT = "[cut here: "  # where the rest of an output is missing, after a newline
MISSING = "[...]"  # where the beginning of an output is missing


@dataclass(slots=True)
class Output:
    """What one stream said: its beginning up to a limit, and its end. The rest is read and dropped.

    Args:
        limit: bytes of the beginning.
        follow: called with everything that is read, as it arrives; see `capture.task_log.output_log`.
    """

    limit: int
    follow: Callable[[bytes], object] | None = None
    total: int = 0
    _head: bytearray = field(default_factory=bytearray)
    _tail: bytes = b""

    def add(self, data: bytes) -> None:
        """Take what was read."""
        if self.follow is not None:
            self.follow(data)
        self.total += len(data)
        self._head += data[: self.limit - len(self._head)]
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    @property
    def text(self) -> str:
        """The beginning as text, marked where it was cut."""
        cut = self.total - len(self._head)
        if not cut:
            return self._head.decode("utf-8", "replace")
        # A character that the limit splits is dropped.
        kept = codecs.getincrementaldecoder("utf-8")("replace").decode(self._head)
        return f"{kept}\n{CUT}{cut} more bytes]"

    @property
    def tail(self) -> str:
        """The end as text, marked where something is missing before it."""
        kept = self._tail.decode("utf-8", "replace")
        return kept if self.total <= len(self._tail) else f"{MISSING}{kept}"


def describe_exit(return_code: int) -> str:
    """Return how a process ended, as the words after its name; a negative code is that of a signal."""
    if return_code < 0:
        return f"was killed by signal {-return_code}"
    return f"ended with exit code {return_code}"


def describe_output(stdout: str, stderr: str) -> str:
    """Return what a process wrote, as lines to add to a message; "" if it wrote nothing."""
    streams = (("stderr", stderr.strip()), ("stdout", stdout.strip()))
    return "".join(f"\n{name}: {text}" for name, text in streams if text)
