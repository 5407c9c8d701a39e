"""New files that appear when they are complete, and never replace another file."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.process.atomic_file import OWNER_ONLY

_OF_FILES: Final = frozenset({
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT,
    errno.ENOSPC, errno.EPERM, errno.EROFS,
})  # fmt: skip


def check_absent(path: Path) -> None:
    """Check that a file can be created.

    Raises:
        InvalidInputError: it exists, or its directory does not.
    """
    if not path.parent.is_dir():
        raise InvalidInputError(f"Directory {path.parent} does not exist; create it first.")
    if path.exists() or path.is_symlink():
        raise _exists(path)


@contextmanager
def new_file(path: Path) -> Generator[Path]:
    """Yield the path of a temporary file in the same directory, which becomes the file when the context ends.

    If the context ends with an error, the temporary file is removed. After `kill -9`, it remains as
    `<name>.partial-<random>`.

    Raises:
        InvalidInputError: the file exists, or its directory does not.
        StoreError: the file cannot be written, for example because the disk is full.
    """
    check_absent(path)
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        _publish(partial, path)
    except OSError as error:
        if error.errno not in _OF_FILES:  # such as a connection that was lost
            raise
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def create_private(path: Path) -> BinaryIO:
    """Create a file that only its owner may read and write, and open it for writing.

    Raises:
        OSError: the file exists, or cannot be created.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, OWNER_ONLY), "wb")


def _publish(partial: Path, path: Path) -> None:
    descriptor = os.open(partial, os.O_RDWR)  # Windows flushes only what may be written
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        path.hardlink_to(partial)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # the file system has no hard links
        partial.rename(path)


def _exists(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{path} exists. Choose another file, or remove this one first.")
