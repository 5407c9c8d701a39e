"""What the transport and the calls of a connection share: its failure, its bounds, and its listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from apflow.core.errors import ApflowError
from apflow.executor.mcp.errors import McpProtocolError, McpTooLargeError

MAX_MESSAGE_BYTES: Final = 16 << 20  # of one message
MAX_UNREQUESTED_BYTES: Final = 64 << 20  # received since the last response
MAX_FOREIGN_LINES: Final = 1000  # that are not messages, on the output of a program
SHOWN_LINE: Final = 200  # characters of such a line in errors


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A task that uses a connection, for what the server sends outside of responses."""

    log: Callable[[str, str], object]  # message, level
    stderr: Callable[[bytes], object] | None  # the output of the program; None: it is not captured


@dataclass(slots=True, eq=False)
class Link:
    """The state of one connection. The first failure ends it."""

    shown: str  # the server, for messages
    listeners: set[Listener] = field(default_factory=set[Listener])
    failure: ApflowError | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed_here: bool = False  # apflow ends it, not the server
    is_lost: bool = False  # the output of the program has ended
    abandoned: int = 0  # requests that were cancelled before their response
    cancellations_sent: int = 0
    _received: int = 0
    _foreign: int = 0
    _first_foreign: str = ""

    def fail(self, error: ApflowError) -> None:
        """End the connection because of an error, unless it is ending."""
        if not self.closing.is_set():
            self.failure = error
            self.closing.set()

    def close(self) -> None:
        """End the connection without an error."""
        if not self.closing.is_set():
            self.is_closed_here = True
            self.closing.set()

    def settle(self) -> None:
        """Record that a request was answered."""
        self._received = 0

    def count(self, size: int) -> None:
        """Record bytes that were received. Too many without a response end the connection."""
        self._received += size
        if self._received > MAX_UNREQUESTED_BYTES:
            advice = "It floods the connection, which was closed."
            self.fail(
                McpTooLargeError(self.shown, "messages without a response", MAX_UNREQUESTED_BYTES, advice)
            )

    def refuse_message(self) -> None:
        """End the connection because of a message that is too large."""
        advice = "Ask for less, for example for a part of the list or of the file."
        self.fail(McpTooLargeError(self.shown, "a message", MAX_MESSAGE_BYTES, advice))

    def ignore(self, line: bytes) -> None:
        """Record a line that is not a message. Too many end the connection."""
        self._foreign += 1
        if self._foreign == 1:
            self._first_foreign = line[:SHOWN_LINE].decode("utf-8", "replace").strip()
        if self._foreign > MAX_FOREIGN_LINES:
            self.fail(McpProtocolError(self.shown, self.note.removeprefix("Its output ").rstrip(".")))

    @property
    def note(self) -> str:
        """What may explain why no response came; else an empty string."""
        if not self._foreign:
            return ""
        lines = "a line that is" if self._foreign == 1 else f"{self._foreign} lines that are"
        return f"Its output contains {lines} not JSON-RPC, first {self._first_foreign!r}."

    def hear_stderr(self, data: bytes) -> None:
        """Pass output of the program on to the logs of the tasks that use it."""
        for listener in self.listeners:
            if listener.stderr is not None:
                listener.stderr(data)

    def hear_log(self, message: str, level: str) -> None:
        """Pass a log message of the server on to the logs of the tasks that use it."""
        for listener in self.listeners:
            listener.log(message, level)
