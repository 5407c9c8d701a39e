"""Which files of this machine a task may name, and how such a file is opened.

A path in a task's inputs comes from the author of the task. It is resolved, compared with the permitted
folders, and opened folder by folder without following links, so that a path that changes in between leads
nowhere else. Only regular files are read: a pipe or a device may never answer, and the contents of /proc and
/sys are made by the kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from apflow.core.errors import FileRefusedError
from apflow.core.permissions.origin import current_origin
from apflow.core.settings import settings_now

ANY: Final = "*"
# What is below these is made by the kernel, whatever its kind says.
KERNEL: Final = ("/proc", "/sys", "/dev")
MAX_PEM_BYTES: Final = 4 << 20
MAX_CERTIFICATES: Final = 4096
_CERTIFICATE = re.compile(
    rb"-----BEGIN (?P<kind>(?:X509 )?CERTIFICATE)-----.*?-----END (?P=kind)-----", re.DOTALL
)

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that replaced the file would be waited for.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FilePolicy:
    """The folders below which files may be named. None: any file; (): none."""

    roots: tuple[str, ...] | None = None

    def check(self, path: str) -> None:
        """Check a path without opening the file.

        Raises:
            FileRefusedError: the policy does not permit what the path leads to.
            ValueError: it is not a path.
        """
        self._permitted(path)

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Return a descriptor of a regular file, which the caller closes. Blocks: call it in a thread.

        Args:
            path: `~` stands for the home folder.
            flags: as of `os.open`, beside those that make it safe.
            mode: of a file that is created.

        Raises:
            FileRefusedError: the policy does not permit the file, or it is not a regular one.
            OSError: it cannot be opened.
            ValueError: it is not a path.
        """
        real = self._permitted(path)
        folder, name = _open_folder(real)
        try:
            _check_kind(path, folder, name, flags)
            descriptor = os.open(name, flags | _FILE, mode, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileRefusedError(path, "it is not a regular file")
        return descriptor

    def read(self, path: str, limit: int) -> bytes:
        """Return what a file holds. Blocks: call it in a thread, or use `read_file`.

        Raises:
            FileRefusedError: the policy does not permit the file, it is not a regular one, or it is larger
                than `limit` bytes.
            OSError: it cannot be read.
            ValueError: it is not a path.
        """
        descriptor = self.open(path)
        try:
            data = bytearray()
            while len(data) <= limit and (part := os.read(descriptor, limit + 1 - len(data))):
                data += part
        finally:
            os.close(descriptor)
        if len(data) > limit:
            raise FileRefusedError(path, f"it is larger than {limit:,} bytes")
        return bytes(data)

    def read_certificates(self, path: str) -> str:
        """Return the certificates in PEM in a file, or in the files of a folder. Blocks: call it in a thread.

        Raises:
            FileRefusedError: see `read`.
            OSError: it cannot be read.
            ValueError: it is not a path, or holds no certificate.
        """
        files = self._names(path) if self._is_folder(path) else [path]
        found: dict[bytes, None] = {}
        for each in files:
            found |= dict.fromkeys(
                match[0] for match in _CERTIFICATE.finditer(self.read(each, MAX_PEM_BYTES))
            )
            if len(found) > MAX_CERTIFICATES:
                raise FileRefusedError(path, f"it holds more than {MAX_CERTIFICATES:,} certificates")
        if not found:
            raise ValueError("it holds no certificate in PEM")
        return b"\n".join(found).decode("ascii", "replace")

    def _names(self, path: str) -> list[str]:
        """Return the paths of the files in a folder, in order."""
        with os.scandir(self._permitted(path)) as entries:
            found = [entry.path for _, entry in zip(range(MAX_CERTIFICATES + 1), entries, strict=False)]
        if len(found) > MAX_CERTIFICATES:
            raise FileRefusedError(path, f"it holds more than {MAX_CERTIFICATES:,} entries")
        return [each for each in sorted(found) if os.path.isfile(each)]  # noqa: PTH113 - strings

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(self._permitted(path))  # noqa: PTH112 - strings

    def _permitted(self, path: str) -> str:
        """Return the real path of what a path leads to, provided that the policy permits it."""
        if "\0" in path:
            raise ValueError("it contains a null byte")
        expanded = os.path.expanduser(path)  # noqa: PTH111 - a Path would drop a trailing slash
        if self.roots is not None and not self.roots:
            raise FileRefusedError(path, _CLOSED)
        real = os.path.realpath(expanded)
        if self.roots is not None and not any(_is_below(real, root) for root in self.roots):
            # The same answer whether or not there is such a file.
            raise FileRefusedError(
                path, f"it is not below one of the folders {', '.join(self.roots)}{_ADVICE}"
            )
        if any(_is_below(real, each) for each in KERNEL):
            raise FileRefusedError(path, "it leads to what the kernel makes, not to a file")
        return real


_ADVICE: Final = " (APFLOW_FILE_ROOTS)"
_CLOSED: Final = (
    "tasks of this server's clients may name no files. An operator permits folders with "
    "APFLOW_FILE_ROOTS=/srv/apflow (by comma; * for any)"
)


def file_policy() -> FilePolicy:
    """Return the policy for the task that runs: of the settings, else closed for clients of a server."""
    roots = settings_now("file_roots").file_roots
    if ANY in roots:
        return FilePolicy()
    origin = current_origin()
    is_closed = origin is not None and origin.is_remote
    return FilePolicy(roots or (() if is_closed else None))


async def read_file(path: str, limit: int) -> bytes:
    """Return what a file holds that the task that runs may name; see `FilePolicy.read`."""
    return await asyncio.to_thread(file_policy().read, path, limit)


async def read_certificates(path: str) -> str:
    """Return the certificates that the task that runs may name; see `FilePolicy.read_certificates`."""
    return await asyncio.to_thread(file_policy().read_certificates, path)


def _is_below(real: str, root: str) -> bool:
    folder = os.path.realpath(os.path.expanduser(root))  # noqa: PTH111
    return PurePath(real).is_relative_to(folder)


def _open_folder(real: str) -> tuple[int, str]:
    """Return a descriptor of the folder that holds a file, and the file's name. No link is followed."""
    parts = PurePath(real).parts
    folder = os.open(parts[0], _FOLDER)
    try:
        for name in parts[1:-1]:
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
    except BaseException:
        os.close(folder)
        raise
    return folder, parts[-1] if len(parts) > 1 else "."


def _check_kind(path: str, folder: int, name: str, flags: int) -> None:
    """Raise `FileRefusedError` unless a name is a regular file's: opening a device may have an effect."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if flags & os.O_CREAT:
            return
        raise
    if not stat.S_ISREG(found.st_mode):
        raise FileRefusedError(path, "it is not a regular file")
