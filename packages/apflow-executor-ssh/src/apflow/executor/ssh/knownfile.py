"""The files of known hosts: read at each call, and added to only where the task names one for that."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from apflow.executor.ssh.errors import SshInputError
from apflow.executor.ssh.knownhost import HostKey, KnownHosts, is_lines, read_lines

LARGEST = 16 << 20
# What ssh reads without being told.
USUAL = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
# Only such a file is ever added to: any other that this program may write is none of a task's business.
NAME_HAS = "known_hosts"


def read_known_hosts(given: str | None, *, accepts_new: bool = False) -> KnownHosts:
    """Return the known hosts of a path or of lines; without either, of the files that ssh reads.

    Raises:
        SshInputError: there is no such file, or what was given holds no key.
    """
    if given is None:
        texts = [_read(Path(each).expanduser()) for each in USUAL if _is_file(each)]
        return KnownHosts(" or ".join(USUAL), tuple(read_lines("\n".join(texts))))
    if is_lines(given):
        entries = tuple(read_lines(given))
        if not entries:
            raise SshInputError("No line of known_hosts names a host and its key (host type base64).")
        return KnownHosts("the lines of known_hosts that were given", entries)
    path = Path(given).expanduser()
    if accepts_new and NAME_HAS not in path.name:
        raise SshInputError(
            f"New host keys are only added to a file whose name has {NAME_HAS!r} in it, not to {given!r}."
        )
    if accepts_new and not path.exists():
        return KnownHosts(given, ())
    return KnownHosts(given, tuple(read_lines(_read(path))))


def add_known_host(given: str, name: str, key: HostKey) -> None:
    """Add a host that is new to the file, unless somebody else has done so meanwhile.

    Raises:
        SshHostKeyChangedError: somebody else has added another key.
        SshInputError: the file cannot be written.
    """
    path = Path(given).expanduser()
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(file, "r+", encoding="utf-8", errors="surrogateescape") as opened:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            text = opened.read(LARGEST)
            if KnownHosts(given, tuple(read_lines(text))).check(name, key, accepts_new=True):
                return
            opened.write(("" if not text or text.endswith("\n") else "\n") + key.line(name) + "\n")
    except OSError as error:
        raise SshInputError(f"The host key cannot be added to {given!r}: {error.strerror}.") from error


def _is_file(path: str) -> bool:
    try:
        return Path(path).expanduser().is_file()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return False


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise SshInputError(f"The file of known hosts {str(path)!r} is not a file.")
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            return file.read(LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SshInputError(f"The file of known hosts {str(path)!r} cannot be read: {reason}.") from error
