"""The output of a process: a pipe that exists before the process does, read as the output comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from apflow.core.process.captured_output import Output

CHUNK = 1 << 16
CAPACITY = 1 << 20  # bytes that a pipe holds at most, unless an administrator has raised the limit


class OutputPipe(asyncio.Protocol):
    """A pipe whose one end is given to a process, and whose other end is read into an `Output`.

    Args:
        at_end: called when no process holds the pipe any more.
    """

    def __init__(self, output: Output, at_end: Callable[[], object]) -> None:
        self._output, self._at_end = output, at_end
        self._is_open = True
        self._transport: asyncio.ReadTransport | None = None
        self._end, self.given = os.pipe()

    async def open(self) -> None:
        """Begin to read."""
        file = os.fdopen(self._end, "rb", 0)
        try:
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, file)
        except BaseException:
            file.close()
            raise

    def data_received(self, data: bytes) -> None:
        self._output.add(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._is_open = False
        self._at_end()

    def give(self) -> None:
        """Leave the one end to the process that has it now. May be repeated."""
        if self.given != -1:
            os.close(self.given)
            self.given = -1

    def close(self) -> None:
        """Read the remaining data, and close."""
        self.give()
        if self._transport is None:
            with suppress(OSError):
                os.close(self._end)
            return
        if self._is_open and not self._transport.is_closing():
            self._read_rest()
        self._transport.close()

    def _read_rest(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(CAPACITY // CHUNK):
                data = os.read(self._end, CHUNK)
                if not data:
                    return
                self._output.add(data)
