"""One connection: opened, the host checked, the user logged in, and closed. All of it blocks, in a thread.

Every wait ends immediately when the connection is lost or is stopped.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event

import paramiko

from apflow.executor.ssh.errors import SshConnectionError, SshDroppedError, SshLoginError, SshShellError
from apflow.executor.ssh.knownfile import add_known_host
from apflow.executor.ssh.knownhost import HostKey, KnownHosts, is_lines, name_of
from apflow.executor.ssh.request import SshRequest
from apflow.executor.ssh.transport import Transport

SIGN_SECONDS = 15.0  # of silence, after which the server is asked for a sign of life
SIGNS = 3  # that may fail to come
JOIN_SECONDS = 2.0  # for the receiving thread to end
ENDING_SECONDS = 0.2  # for it to end, once its sessions have
NEVER = 1e6  # seconds: paramiko's own limits, which do not cover every stage; the caller has better ones
MAX_CAUSE_LENGTH = 200
GREETING, KEYS = "waiting for its greeting", "agreeing on keys"


class Stopped(Exception):  # noqa: N818 - not an error: it was requested
    """The operation has been stopped."""


class Connection:
    """A connection to the host of a request. `stage` says what it is busy with, for people."""

    def __init__(self, request: SshRequest) -> None:
        self._request = request
        self._stage = "connecting"
        self.is_stopped = False
        self._happened = Event()
        self._transport: Transport | None = None
        self._silences = 0

    @property
    def stage(self) -> str:
        """The current stage, for messages."""
        has_greeted = self._transport is not None and self._transport.remote_version
        return KEYS if self._stage == GREETING and has_greeted else self._stage

    @stage.setter
    def stage(self, stage: str) -> None:
        self._stage = stage

    def open(self, sock: socket.socket, known: KnownHosts) -> None:
        """Agree on keys over a connected socket, which is closed with the connection, and check the host.

        Raises:
            SshHostKeyError: the host is unknown, or another one.
            SshConnectionError: it speaks no SSH, or has gone.
        """
        name = name_of(self._request.host, self._request.port)
        self.stage = GREETING
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = Transport(sock, self._happened)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = NEVER
        transport.get_security_options().key_types = known.algorithms(name)
        self._transport = transport
        agreed = Event()
        transport.start_client(agreed)
        self.wait_until(lambda: transport.initial_kex_done and agreed.is_set())
        self._check_host(name, known, transport.get_remote_server_key())

    def log_in(self, key: paramiko.PKey | None) -> None:
        """Log the user in with the key, the password, or both where the server wants both.

        Raises:
            SshLoginError: the server refuses.
            SshConnectionError: it has gone.
        """
        request, transport = self._request, self._opened
        self.stage = "logging in"
        ways: dict[str, Callable[[], list[str]]] = {}
        if key is not None:
            ways["key"] = lambda: transport.auth_publickey(request.username, key)
        if request.password is not None:
            ways["password"] = lambda: transport.auth_password(request.username, request.password or "")
        allowed: list[str] = []
        for way in ways.values():
            try:
                allowed = list(way())
            except paramiko.BadAuthenticationType as error:
                allowed = list(error.allowed_types)
            except paramiko.AuthenticationException as error:
                if not transport.is_active():
                    raise self.lost(str(error)) from error
            else:
                if not allowed:
                    return
        raise SshLoginError(request.username, request.host, list(ways), allowed)

    def start(self, line: str) -> paramiko.Channel:
        """Open a session and start a line in it.

        Raises:
            SshShellError: the server refuses.
        """
        try:
            channel = self._opened.open_session(timeout=NEVER)
            channel.exec_command(line)
        except paramiko.SSHException as error:
            if self.has_ended():
                raise self.lost(str(error)) from error
            raise SshShellError(
                f"{self._request.host} starts no command for {self._request.username!r}. Each call needs two "
                f"sessions of one connection (MaxSessions 2 or more), and a user who may run commands."
            ) from error
        return channel

    def wait_until(self, claim: Callable[[], bool], *, within: float | None = None) -> None:
        """Wait until a claim is true that may become so whenever something happens on the connection.

        Args:
            within: seconds, for what is done after all that may be stopped; None: until it is stopped.

        Raises:
            Stopped: the connection was stopped.
            SshConnectionError: the connection was lost, or the server gives no sign of life.
        """
        deadline = None if within is None else time.monotonic() + within
        while True:
            self._happened.clear()
            if claim():
                return
            if deadline is None and self.is_stopped:
                raise Stopped
            if not self._opened.is_active():
                raise self.lost()
            left = SIGN_SECONDS if deadline is None else min(SIGN_SECONDS, deadline - time.monotonic())
            if left <= 0:
                return
            if self._happened.wait(left):
                self._silences = 0
            elif deadline is None:
                self._ask_for_a_sign()

    def has_ended(self) -> bool:
        """Return whether the connection has ended. Waits briefly, as its sessions are closed first."""
        self._opened.join(ENDING_SECONDS)
        return not self._opened.is_active()

    def again(self) -> None:
        """Wake the waiting thread, so that it checks its condition again."""
        self._happened.set()

    @contextmanager
    def telling_of_loss(self) -> Generator[None]:
        """Raise one type of error for all errors of paramiko that mean a lost connection."""
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost(str(error)) from error

    def lost(self, cause: str = "", otherwise: str = "the server closed it") -> Exception:
        """Return the exception to raise after the connection has ended.

        Args:
            otherwise: the cause if no better one is known.
        """
        if self.is_stopped:
            return Stopped()
        transport, request = self._opened, self._request
        cause = cause or str(transport.get_exception() or "") or otherwise
        kind = SshConnectionError if transport.remote_version else SshDroppedError
        return kind(request.host, request.port, self.stage, cause[:MAX_CAUSE_LENGTH])

    def cut(self) -> None:
        """End the connection at once, from any thread."""
        if self._transport is not None:
            self._transport.cut()
        self._happened.set()

    def close(self) -> None:
        """End the connection, and wait for the end of its thread. May be repeated."""
        self.cut()
        if self._transport is not None and self._transport.is_alive():
            self._transport.join(JOIN_SECONDS)

    @property
    def _opened(self) -> Transport:
        assert self._transport is not None  # `open` comes first
        return self._transport

    def _check_host(self, name: str, known: KnownHosts, shown: paramiko.PKey) -> None:
        key = HostKey(shown.get_name(), shown.asbytes())
        is_known = known.check(name, key, accepts_new=self._request.accepts_new)
        given = self._request.known_hosts
        if not is_known and given is not None and not is_lines(given):
            add_known_host(given, name, key)

    def _ask_for_a_sign(self) -> None:
        if self._silences >= SIGNS:
            raise self.lost(f"the server has given no sign of life for {SIGN_SECONDS * (SIGNS + 1):g} s")
        self._silences += 1
        if self._opened.initial_kex_done:
            self._opened.ask_for_a_sign()
