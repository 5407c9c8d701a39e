"""The program in a pseudo-terminal, and what it shows there."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import termios
from fcntl import ioctl
from typing import IO, Any

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PARTS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Terminal:
    """A pseudo-terminal with the program in it."""

    def __init__(
        self,
        apflow: Any,
        *arguments: str,
        env: dict[str, str] | None = None,
        stdout: IO[str] | None = None,
        width: int = 120,
        height: int = 24,
    ) -> None:
        self.master, slave = pty.openpty()
        self._set_size(slave, width, height)
        unset = ("COLUMNS", "LINES", "NO_COLOR")
        variables = {name: value for name, value in apflow.variables.items() if name not in unset}
        self.process = subprocess.Popen(
            apflow.command(*arguments),
            stdin=slave,
            stdout=stdout or slave,
            stderr=slave,
            cwd=apflow.folder,
            env=variables | {"TERM": "xterm-256color"} | (env or {}),
        )
        os.close(slave)
        self.seen = ""

    def resize(self, width: int, height: int = 24) -> None:
        """Change the size, as a user who drags the border of a window does."""
        self._set_size(self.master, width, height)
        self.process.send_signal(signal.SIGWINCH)

    def read_until(self, text: str) -> None:
        """Read the display until it contains a string; fail if the program ends before."""
        while text not in self.plain:
            more = self._read()
            assert more, f"{text!r} was not shown: {self.seen!r}"
            self.seen += more

    def read_more(self, characters: int) -> str:
        """Read at least so many characters beyond what was read, and return them."""
        before = len(self.seen)
        while len(self.seen) - before < characters:
            more = self._read()
            assert more, f"the program ended: {self.seen!r}"
            self.seen += more
        return self.seen[before:]

    def read_to_end(self) -> int:
        while more := self._read():
            self.seen += more
        os.close(self.master)
        return self.process.wait(timeout=60)

    @property
    def plain(self) -> str:
        return ESCAPES.sub("", self.seen)

    @property
    def screen(self) -> list[str]:
        """The lines that are left on a screen of endless height: what was erased is gone."""
        return screen_of(self.seen)

    @staticmethod
    def _set_size(descriptor: int, width: int, height: int) -> None:
        ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _read(self) -> str:
        try:
            return os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # Linux says so when the other side has closed
            return ""


def screen_of(seen: str) -> list[str]:
    """Return the lines that a terminal shows after these characters; lines are never wrapped."""
    rows: list[str] = [""]
    row = column = 0
    for code, command, control, text in PARTS.findall(seen):
        if control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            rows.extend([""] * (row + 1 - len(rows)))
        elif text:
            line = rows[row].ljust(column)
            rows[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
        elif command == "A":
            row = max(0, row - int(code or 1))
        elif command == "K":
            rows[row] = "" if code == "2" else rows[row][:column]
    return [line.rstrip() for line in rows if line.strip()]
