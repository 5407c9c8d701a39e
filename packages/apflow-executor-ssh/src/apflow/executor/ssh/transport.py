"""paramiko's connection, made to tell of everything that happens on it.

Who waits for several things at once (output, room for input, the end) waits for one event. It is set after
each message of the server, and when the connection has ended.
"""

# ruff: noqa: SLF001 - paramiko has no other door to its messages

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_GLOBAL_REQUEST

LOGGER = "paramiko.transport.apflow"
# Words of the server: they could hold anything, even a password that it was sent.
_QUOTES = ("Auth banner: ", "Banner: ", "Debug msg: ", "Disconnect ")
_NO_SHA1 = {"keys": ["ssh-rsa"], "pubkeys": ["ssh-rsa"]}  # paramiko 4 still knows it
_UNKNOWN_SIGNAL = 255  # the code of an end that nothing is known of, as ssh has it

Take = Callable[..., Any]


class Transport(paramiko.Transport):
    """An SSH connection over a connected socket. `happened` is set whenever something has happened on it."""

    def __init__(self, sock: socket.socket, happened: Event) -> None:
        super().__init__(sock, disabled_algorithms=_NO_SHA1)
        self._happened = happened
        self.set_log_channel(LOGGER)
        # What paramiko calls for each message, by its code. Not in its type hints.
        tables: Any = self
        of_channels = tables._channel_handler_table | {MSG_CHANNEL_REQUEST: _take_request}
        tables._handler_table = self._telling(tables._handler_table)
        tables._channel_handler_table = self._telling(of_channels)

    def run(self) -> None:
        """Receive until the connection ends. paramiko calls this in a separate thread."""
        try:
            super().run()
        finally:
            self._happened.set()

    def ask_for_a_sign(self) -> None:
        """Send a request that every server answers, if only by refusing it."""
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        sending: Any = self
        sending._send_user_message(message)

    def cut(self) -> None:
        """End the connection at once, from any thread; what waits for it is woken."""
        with suppress(OSError):  # it has ended already
            self.sock.shutdown(socket.SHUT_RDWR)  # wakes the receiving thread; closing alone would not
        self.close()
        self.packetizer.complete_handshake()  # ends the thread of its timer

    def _telling(self, table: dict[int, Take]) -> dict[int, Take]:
        def telling(take: Take) -> Take:
            def take_and_tell(*message: Any) -> Any:
                try:
                    return take(*message)
                finally:
                    self._happened.set()

            return take_and_tell

        return {code: telling(take) for code, take in table.items()}


def exit_code(channel: paramiko.Channel) -> int | None:
    """Return the exit code of a channel's command, negative where a signal ended it; None: unknown."""
    killed_by: int | None = getattr(channel, "killed_by", None)
    if killed_by is not None:
        return killed_by
    return None if channel.exit_status == -1 else channel.exit_status


def _take_request(channel: Any, message: paramiko.Message) -> None:
    """Take a request of the server. paramiko 5.1 (paramiko#598) passes over the end by a signal."""
    if message.get_text() == "exit-signal":
        message.get_boolean()
        name = f"SIG{message.get_text()}"
        number = signal.Signals.__members__.get(name)
        channel.killed_by = _UNKNOWN_SIGNAL if number is None else -number
        return
    message.rewind()
    message.get_int()  # the channel
    channel._handle_request(message)


def _is_shown(record: logging.LogRecord) -> bool:
    """Keep out of the log what the server says, and what is raised as an error anyway unless debugging."""
    if record.getMessage().startswith(_QUOTES):
        return False
    return record.levelno < logging.WARNING or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


logging.getLogger(LOGGER).addFilter(_is_shown)
