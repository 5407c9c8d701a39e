"""A Unix socket next to a single-process database, for other processes of the same user.

The process that holds the database listens. Both sides check the user of the other one (SO_PEERCRED, where
the system has it), and only the owner can open the socket (0600).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Final

MAX_PATH_BYTES: Final = 100  # the address of a socket has room for 104 to 108, depending on the system
BACKLOG: Final = 128  # connections that wait to be accepted
OWNER_ONLY: Final = 0o600
IS_SUPPORTED: Final = sys.platform != "win32"
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred (unix(7)): pid, uid, gid


def listen(database: Path) -> tuple[socket.socket, Path]:
    """Listen for processes of the same user. Only the process that holds the database may call this.

    The socket is next to the database if its path is short enough and the file system has sockets, otherwise
    in a private folder for temporary files.

    Returns:
        the listening socket, and its path.

    Raises:
        OSError: no socket can be made.
    """
    problem = OSError(errno.EOPNOTSUPP, "No Unix socket can be made")
    for find in (_beside, _private):
        try:
            path = find(database)
            return _listen(path), path
        except OSError as error:
            problem = error
    raise problem


def is_own_peer(connection: socket.socket) -> bool:
    """Return whether the other end of a connection belongs to the user of this process.

    True on systems that do not tell; the permissions of the socket apply there.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return bool(uid == os.geteuid())


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}.sock")


def _private(database: Path) -> Path:
    """Return a path that depends only on the database, in a folder that only this user can enter."""
    import tempfile  # here: most databases have a short path
    from hashlib import sha256

    folder = Path(tempfile.gettempdir()) / f"apflow-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "Not a private directory", str(folder))
    return folder / f"{sha256(os.fsencode(database)).hexdigest()[:24]}.sock"


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, "Too long for the address of a socket", str(path))
    _remove(path)  # left by a process that was killed: this process holds the database now
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(OWNER_ONLY)  # before `listen`: until then every connection is refused
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _remove(path: Path) -> None:
    """Remove a socket, if there is one. A file of another kind raises `FileExistsError`."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "Not a socket", str(path))
    except FileNotFoundError:
        return
    path.unlink(missing_ok=True)
