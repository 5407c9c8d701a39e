"""Connections to the engine that another thread can cut, whatever is waited for on them.

The library offers no way to end a call. What is waited for is an answer on a socket: the sockets are noted
as they are opened, and shut down.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, cast
from weakref import WeakSet

from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class ConnectionCutError(ConnectionError):
    """The connections have been cut on purpose."""


class Line:
    """The connections of one call. After it is cut, it refuses new ones."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards all below
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._is_cut = False
        self._is_protected = False

    @property
    def is_cut(self) -> bool:
        return self._is_cut

    def cut(self) -> None:
        """End what is waited for, now or, where it is protected, afterwards. From any thread."""
        with self._lock:
            self._is_cut = True
            sockets = [] if self._is_protected else list(self._sockets)
        for each in sockets:
            # Not the method of a TLS socket: that would undo the encryption under the one who reads.
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raise `ConnectionCutError` if nothing more may be asked."""
        if self._is_cut and not self._is_protected:
            raise ConnectionCutError("The call was stopped.")

    def note(self, opened: socket.socket) -> None:
        """Take a socket that was opened."""
        with self._lock:
            self._sockets.add(opened)
        self.check()

    @contextmanager
    def protected(self) -> Generator[None]:
        """Let what is asked meanwhile come to its end: its outcome must be known."""
        with self._lock:
            self.check()
            self._is_protected = True
        try:
            yield
        finally:
            with self._lock:
                self._is_protected = False


class UnixConnection(UnixHTTPConnection):
    """A connection at a Unix socket, noted."""

    def __init__(self, line: Line, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._line = line

    def connect(self) -> None:
        # The library's own method leaves the socket open if the connection is refused (docker 7.2).
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(cast("float | None", self.timeout))
            opened.connect(self.unix_socket)
            self._line.note(opened)
        except BaseException:
            opened.close()
            raise
        self.sock = opened


class UnixPool(UnixHTTPConnectionPool):
    """Connections at a Unix socket, noted."""

    def __init__(self, line: Line, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line = line

    def _new_conn(self) -> Any:
        return UnixConnection(self._line, self.base_url, self.socket_path, self.timeout)


class UnixAdapter(UnixHTTPAdapter):
    """What sends requests to a Unix socket."""

    def __init__(self, line: Line, *arguments: Any, **options: Any) -> None:
        self._line = line
        super().__init__(*arguments, **options)

    def get_connection(self, url: str | bytes, proxies: Any = None) -> UnixPool:
        # Each request names another URL, and all go to the one socket.
        del url, proxies
        pools = cast("Any", self).pools
        with pools.lock:
            pool = pools.get("")
            if pool is None:
                pool = pools[""] = UnixPool(self._line, "", self.socket_path, maxsize=self.max_pool_size)
        return cast(UnixPool, pool)


class Noted:
    """What makes a connection to a port note its socket."""

    def __init__(self, *arguments: Any, line: Line, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._line = line

    def connect(self) -> None:
        connection = cast(HTTPConnection, super())
        connection.connect()
        try:
            self._line.note(cast("Any", self).sock)
        except ConnectionCutError:
            connection.close()
            raise


class PlainConnection(Noted, HTTPConnection):
    """A connection to a port, noted."""


class TlsConnection(Noted, HTTPSConnection):
    """An encrypted connection to a port, noted."""


class PortAdapter(HTTPAdapter):
    """What sends requests to a port."""

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = TlsConnection if pool.scheme == "https" else PlainConnection
        pool.conn_kw["line"] = self._line
        return pool
