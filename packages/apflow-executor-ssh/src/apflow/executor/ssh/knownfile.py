"""The files of known hosts: read at each call, and added to only where the task names one for that."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from apflow.core.permissions.file_policy import FilePolicy, file_policy
from apflow.executor.ssh.errors import SshInputError
from apflow.executor.ssh.knownhost import HostKey, KnownHosts, is_lines, read_lines

MAX_SIZE = 16 << 20
# The files that ssh reads by default.
USUAL = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
# Lines are added only to such a file, even if this program can write others.
NAME_HAS = "known_hosts"


def read_known_hosts(given: str | None, *, accepts_new: bool = False) -> KnownHosts:
    """Return the known hosts of a path or of lines; without either, of the files that ssh reads.

    Raises:
        SshInputError: there is no such file, or what was given holds no key.
        FileRefusedError: the file policy does not permit it.
    """
    if given is None:
        # The files of this machine's own ssh, whatever files a task may name.
        texts = [_read(Path(each).expanduser(), FilePolicy()) for each in USUAL if _is_file(each)]
        return KnownHosts(" or ".join(USUAL), tuple(read_lines("\n".join(texts))))
    if is_lines(given):
        entries = tuple(read_lines(given))
        if not entries:
            raise SshInputError("No line of known_hosts names a host and its key (host type base64).")
        return KnownHosts("the lines of known_hosts that were given", entries)
    policy = file_policy()
    try:
        policy.check(given)
    except ValueError as error:
        raise SshInputError(f"known_hosts {given!r} is not a path: {error}.") from error
    path = expanded(given)
    if accepts_new and NAME_HAS not in path.name:
        raise SshInputError(
            f"New host keys are only added to a file whose name has {NAME_HAS!r} in it, not to {given!r}."
        )
    if accepts_new and not path.exists():
        return KnownHosts(given, ())
    return KnownHosts(given, tuple(read_lines(_read(path, policy))))


def add_known_host(given: str, name: str, key: HostKey) -> None:
    """Add a new host to the file, unless another process has added it meanwhile.

    Raises:
        SshHostKeyChangedError: another process has added a different key.
        SshInputError: the file cannot be written.
        FileRefusedError: the file policy does not permit it.
    """
    try:
        if expanded(given).is_symlink():
            raise SshInputError(f"The host key cannot be added to {given!r}: it is a link. Name the file.")
        file = file_policy().open(given, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with open(file, "r+", encoding="utf-8", errors="surrogateescape") as opened:  # noqa: PTH123
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            text = opened.read(MAX_SIZE)
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


def expanded(path: str) -> Path:
    """Return a path with `~` replaced by the home folder.

    Raises:
        SshInputError: there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SshInputError(f"The path {path!r} cannot be used: {error}.") from error


def _read(path: Path, policy: FilePolicy) -> str:
    try:
        return policy.read(str(path), MAX_SIZE).decode("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SshInputError(f"The file of known hosts {str(path)!r} cannot be read: {reason}.") from error
