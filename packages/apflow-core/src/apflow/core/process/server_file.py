"""The file next to a single-process database that names the process which holds it.

Commands read it, and send their requests to that process: to its Unix socket or, if it is a server, to its
URL. The writer of the file decides where tasks and tokens go, so it is used only if it belongs to the user,
other users cannot write it, and the URL is on this machine. A file of another kind, one copied with its
database, or one whose process has ended is ignored.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from apflow.core.process.identity import has_ended, host, started

API: Final = 2  # of the server, as commands use it: commands with another version ignore the file
MAX_SIZE: Final = 4096  # bytes of a file


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A process that holds a database."""

    database: str  # its file, as an absolute path
    url: str  # http, at a loopback address; empty if the process is not a server, or not found so
    needs_token: bool
    pid: int
    started: str  # see `apflow.core.process.identity`
    host: str
    api: int = API
    socket: str = ""  # absolute path of its Unix socket, or empty


_published: dict[Path, list[ServerInfo]] = {}  # what this process says of each file, the newest last


def server_file_of(database: Path) -> Path:
    """Return the path of the server file of a database."""
    return database.with_name(f"{database.name}.server")


def describe_this_server(
    database: Path, url: str = "", *, needs_token: bool = False, socket: str = ""
) -> ServerInfo:
    """Return this process as the one that holds a database, with its URL, its socket, or both.

    Raises:
        ValueError: the URL is not one of this machine's own.
    """
    if url and not is_loopback(url):
        raise ValueError(f"{url!r} is not http at a loopback address.")
    pid = os.getpid()
    return ServerInfo(str(database), url, needs_token, pid, started(pid) or "", host(), socket=socket)


@contextmanager
def published(server: ServerInfo) -> Generator[None]:
    """Write the server file of a database while the context lasts. The database must be open already.

    If this process has published a socket of the database, the file names it, too. When the context ends,
    the file is again as it was.

    Raises:
        OSError: the file cannot be written.
    """
    from apflow.core.process.atomic_file import write_whole  # here: commands only read

    path = server_file_of(Path(server.database))
    said = _published.setdefault(path, [])
    if said and said[-1].pid == server.pid:
        server = replace(server, socket=server.socket or said[-1].socket)
    write_whole(path, _text(server))
    said.append(server)
    try:
        yield
    finally:
        said.remove(server)
        if os.getpid() == server.pid:  # a forked process leaves the file alone
            _withdraw(path, server, said)


def _withdraw(path: Path, server: ServerInfo, said: list[ServerInfo]) -> None:
    """Write what this process said of a database before, or remove the file."""
    from apflow.core.process.atomic_file import write_whole

    with suppress(OSError):
        if path.read_text() != _text(server):
            return  # another process holds the database by now, or something else is said
        if said:
            write_whole(path, _text(said[-1]))
        else:
            path.unlink()


def _text(server: ServerInfo) -> str:
    return json.dumps(asdict(server))


def find_server(database: Path) -> ServerInfo | None:
    """Return the running process that holds a database, from its server file; fast if there is no file.

    Args:
        database: the file, as an absolute path without links, as a store has it.
    """
    try:
        text = _read(server_file_of(database))
    except OSError:
        return None
    holder = _parse(text) if text is not None else None
    if holder is None or holder.database != str(database) or holder.host != host():
        return None
    return None if has_ended(holder.pid, holder.started) else holder


def is_loopback(url: str) -> bool:
    """Return whether a URL is that of a server at a loopback address, by its number."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_plain = parts.scheme == "http" and parts.port is not None and parts.netloc == url[len("http://") :]
        return is_plain and parts.username is None and ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str | None:
    """Return what is in a file that only this user may have written; None of any other."""
    if sys.platform == "win32":
        return None
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_own or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        return file.read(MAX_SIZE).decode(errors="replace")


def _parse(text: str) -> ServerInfo | None:
    try:
        read: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or cast("dict[str, Any]", read).get("api") != API:
        return None
    given = cast("dict[str, Any]", read)
    kinds = {"database": str, "url": str, "needs_token": bool, "pid": int, "started": str, "host": str}
    if not all(isinstance(given.get(name), kind) for name, kind in kinds.items()):
        return None
    socket = given.get("socket", "")
    holder = ServerInfo(**{name: given[name] for name in kinds}, socket=socket)
    has_socket = isinstance(socket, str) and Path(socket).is_absolute()
    is_usable = is_loopback(holder.url) or (not holder.url and has_socket)
    return holder if is_usable and (has_socket or socket == "") else None
