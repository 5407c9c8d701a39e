"""One call: a login on another machine, a command there, and its end. Everything here blocks, in a thread.

`load`, `prepare` and `run` follow each other; `stop` ends them from another thread, the command included.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Timer

import paramiko

from apflow.core.capture.task_log import output_log
from apflow.core.process.captured_output import Output
from apflow.executor.ssh.connection import Connection, Stopped
from apflow.executor.ssh.errors import SshConnectionError, SshError, SshShellError
from apflow.executor.ssh.key import parse_key, read_key_file
from apflow.executor.ssh.knownfile import read_known_hosts
from apflow.executor.ssh.knownhost import KnownHosts
from apflow.executor.ssh.request import SshRequest
from apflow.executor.ssh.script import keeper_line, leader_line
from apflow.executor.ssh.transport import exit_code

END_SECONDS = 1.5  # for the keeper to end the command, and itself
CUT_SECONDS = 1.8  # after which the connection is cut, and the server ends it all
GRACE_SECONDS = 0.5  # of silence after the command's exit, while another process holds its output
REST_SECONDS = 10.0  # for what the command said before its exit to arrive, and
REST_BYTES = 8 << 20  # of it: more than pipe, server and network hold
CHUNK, CHUNKS = 1 << 16, 16  # read at once, and before anything else is looked at
HELD = (
    "A process that the command had left running still held its output. The command's process group was "
    "ended, and its output is no longer read."
)
MAX_GREETING_LENGTH = 64 << 10  # what a user's startup files may say


class Session:
    """A login for one command. `stdout`, `stderr` and `stage` may be looked at from other threads."""

    def __init__(self, request: SshRequest) -> None:
        self._request = request
        self.stdout = Output(request.max_output_bytes, output_log("stdout"))
        self.stderr = Output(request.max_output_bytes, output_log("stderr"))
        self._connection = Connection(request)
        self._known: KnownHosts | None = None
        self._key: paramiko.PKey | None = None
        self._pending = memoryview(request.script + request.stdin)
        self.note = ""  # a message about processes that the command left running
        self._is_running = False
        self._timer: Timer | None = None

    @property
    def stage(self) -> str:
        """The current stage, for messages."""
        return self._connection.stage

    def load(self) -> None:
        """Read the credential and the known hosts.

        Raises:
            SshInputError: one of them cannot be used.
        """
        request = self._request
        self._known = read_known_hosts(request.known_hosts, accepts_new=request.accepts_new)
        if request.key is not None:
            self._key = parse_key(request.key.encode(), request.passphrase)
        elif request.key_file is not None:
            self._key = parse_key(read_key_file(request.key_file), request.passphrase)

    def prepare(self, sock: socket.socket) -> None:
        """Log in over a connected socket, which is closed with the session, and get ready for the command.

        Raises:
            SshError: that fails, in one of the ways that `errors` lists.
        """
        assert self._known is not None  # `load` comes first
        try:
            with self._connection.telling_of_loss():
                self._connection.open(sock, self._known)
                self._connection.log_in(self._key)
                self._connection.stage = "starting a shell"
                self._start()
        except BaseException:
            self.close()
            sock.close()
            raise

    def run(self) -> int:
        """Run the command to its end, return its exit code and close the connection.

        Raises:
            SshConnectionError: the connection was lost.
        """
        self._connection.stage = "the command ran"
        self._is_running = True
        try:
            with self._connection.telling_of_loss():
                self._connection.wait_until(lambda: self._converse() or exit_code(self._leader) is not None)
                code = exit_code(self._leader)
                if code is None:
                    raise self._connection.lost(otherwise="the server did not say how the command ended")
                if self._take_rest():
                    self._dismiss()
                else:
                    self._end_command()
                    self.note = HELD
        except Stopped:
            self._end_command()
            raise
        except SshConnectionError as error:
            said = self.stdout.tail, self.stderr.tail
            raise SshConnectionError(error.host, error.port, error.stage, error.cause, *said) from error
        else:
            return code
        finally:
            self.close()

    def stop(self) -> None:
        """End the current operation and the command. Call this from another thread."""
        self._connection.is_stopped = True
        if self._is_running:
            # Only a server that takes nothing any more lets it come to that.
            self._timer = Timer(CUT_SECONDS, self._connection.cut)
            self._timer.daemon = True
            self._timer.start()
            self._connection.again()
        else:
            self._connection.cut()

    def close(self) -> None:
        """Close the connection. The command, where it still runs, is ended by its keeper. May be repeated."""
        self._connection.close()
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        mark = f"apflow-{secrets.token_hex(8)}"
        self._keeper = self._connection.start(keeper_line(mark))
        self._leader = self._connection.start(leader_line(mark, self._request.script))
        self._read_greeting(self._keeper, mark)
        group = self._read_greeting(self._leader, mark)
        self._keeper.sendall(b"%d\n" % group)

    def _read_greeting(self, channel: paramiko.Channel, mark: str) -> int:
        """Wait until a shell reports that it is ready, and return its process id.

        Earlier output comes from the user's startup files, not from the command.
        """
        said = bytearray()
        pattern = re.compile(rb"%b (\d+)\r?\n" % mark.encode())

        def has_greeted() -> bool:
            is_over = channel.closed
            has_more = _take(channel, said.extend, _drop)
            return (is_over and not has_more) or len(said) > MAX_GREETING_LENGTH or bool(pattern.search(said))

        self._connection.wait_until(has_greeted)
        found = pattern.search(said)
        if found is None and self._connection.has_ended():
            raise self._connection.lost()
        if found is None:
            raise SshShellError(
                f"{self._request.host} has no POSIX shell for {self._request.username!r}: `sh` did not "
                f"start. The user's login shell must be able to start `sh` (with `dd`), and the key must not "
                f"be bound to another command."
            )
        self.stdout.add(bytes(said[found.end() :]))
        return int(found[1])

    def _converse(self) -> bool:
        """Take what the command has said, and give it what it has room for; say whether it is over."""
        leader = self._leader
        is_over = leader.closed  # asked first: nothing comes after that
        if _take(leader, self.stdout.add, self.stderr.add):
            self._connection.again()
        elif is_over:
            return True
        if self._pending and leader.send_ready():
            with suppress(OSError):  # it wants no more input
                self._pending = self._pending[leader.send(bytes(self._pending[:CHUNK])) :]
            self._connection.again()
        elif not self._pending:
            leader.shutdown_write()
        return False

    def _take_rest(self) -> bool:
        """Take what the command said before its exit; say whether no process holds the output any more."""
        until, most = time.monotonic() + REST_SECONDS, self._said + REST_BYTES
        while not self._is_over():
            if self._connection.is_stopped:
                raise Stopped
            before = self._said
            self._connection.wait_until(self._converse, within=GRACE_SECONDS)
            is_silent = self._said == before
            if not self._leader.closed and (is_silent or self._said > most or time.monotonic() > until):
                return False
        return True

    def _is_over(self) -> bool:
        leader = self._leader
        return leader.closed and not (leader.recv_ready() or leader.recv_stderr_ready())

    @property
    def _said(self) -> int:
        return self.stdout.total + self.stderr.total

    def _dismiss(self) -> None:
        """Notify the keeper that the session is over: processes that do not hold the output may continue."""
        with suppress(OSError, EOFError, paramiko.SSHException, SshConnectionError):
            self._keeper.sendall(b"done\n")
            self._connection.wait_until(lambda: self._keeper.closed, within=END_SECONDS)

    def _end_command(self) -> None:
        """Have the keeper end the command, and take what the command says to that."""
        with suppress(OSError, EOFError, paramiko.SSHException, SshError, Stopped):
            self._keeper.shutdown_write()
            self._connection.wait_until(lambda: self._keeper.closed, within=END_SECONDS)
            _take(self._leader, self.stdout.add, self.stderr.add)


def _take(channel: paramiko.Channel, out: Callable[[bytes], object], err: Callable[[bytes], object]) -> bool:
    """Take what a command has said, so much of it that others get their turn; say whether there is more."""
    for _ in range(CHUNKS):
        has_out, has_err = channel.recv_ready(), channel.recv_stderr_ready()
        if has_out:
            out(channel.recv(CHUNK))
        if has_err:
            err(channel.recv_stderr(CHUNK))
        if not (has_out or has_err):
            return False
    return True


def _drop(_data: bytes) -> None:
    pass
