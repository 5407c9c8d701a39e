"""Files of exports, as commands write and read them: plain or compressed, or standard output and input."""

from __future__ import annotations

import gzip
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, cast

from apflow.cli.display.names import counted
from apflow.core import plugins
from apflow.core.errors import InvalidInputError
from apflow.core.process.new_file import create_private, new_file
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskStore
from apflow.core.store.session import create_session
from apflow.core.store.transfer import ExportReader, ExportWriter

STANDARD: Final = "-"
SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_GZIP: Final = b"\x1f\x8b"
_DUCKDB: Final = slice(8, 12)  # the place of the word DUCK in a DuckDB file
_NOUNS: Final = {"events": "event page", "log": "log page", "usage": "usage row"}  # the others are their type


@contextmanager
def written_export(name: str) -> Generator[ExportWriter]:
    """Yield what writes an export to a new file, which appears when the context ends without an error.

    Raises:
        InvalidInputError: the file exists, or its directory does not.
        OSError: the file cannot be written.
    """
    with written_file(name) as file:
        yield ExportWriter(file, plugins.version("apflow-core") or "")


@contextmanager
def written_file(name: str) -> Generator[BinaryIO]:
    """Yield a new file, which appears when the context ends without an error; compressed if its name says so.

    Raises:
        InvalidInputError: the file exists, or its directory does not.
        OSError: the file cannot be written.
    """
    with ExitStack() as stack:
        if name == STANDARD:
            yield sys.stdout.buffer
            return
        partial = stack.enter_context(new_file(_path(name)))
        file = stack.enter_context(create_private(partial))
        if name.endswith(".gz"):
            file = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=file, mode="wb", filename="")))
        yield file


@contextmanager
def opened_export(name: str) -> Generator[ExportReader]:
    """Yield what reads an export.

    Raises:
        InvalidInputError: the file cannot be read, or is not an export that this version reads.
    """
    with ExitStack() as stack:
        try:
            opened = sys.stdin.buffer if name == STANDARD else stack.enter_context(_path(name).open("rb"))
            raw = cast("BufferedReader", opened)
            is_compressed = raw.peek(2)[:2] == _GZIP
        except OSError as error:
            raise InvalidInputError(f"{name} cannot be read: {error.strerror}.") from error
        file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if is_compressed else raw
        yield ExportReader(cast("BinaryIO", file), "standard input" if name == STANDARD else name)


def is_export(source: str) -> bool:
    """Return whether a file is an export rather than a database, from its name and its first bytes."""
    if source == STANDARD or source.endswith(SUFFIXES):
        return True
    try:
        with _path(source).open("rb") as file:
            head = file.read(_DUCKDB.stop)
    except (OSError, ValueError):  # a URL
        return False
    return head[_DUCKDB] != b"DUCK" and head.startswith((b"{", _GZIP))


@asynccontextmanager
async def readable_database(service: TaskService, folder: Path) -> AsyncGenerator[TaskStore]:
    """Yield the database of a service: that of this process, or a copy of what another process holds.

    Args:
        folder: the directory in which a copy is made, which is removed afterwards.
    """
    if type(service) is TaskService:
        yield service.db
        return
    with tempfile.TemporaryDirectory(prefix=".apflow-export-", dir=folder) as made:
        copy = Path(made) / "copy.duckdb"
        await service.backup(copy)
        async with create_session(f"duckdb:///{copy}") as db:
            yield db


def folder_of(name: str) -> Path:
    """Return the directory of a file; the one for temporary files in the case of standard output."""
    return Path(tempfile.gettempdir()) if name == STANDARD else _path(name).parent


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the numbers of rows, by type, as text."""
    return ", ".join(counted(count, _NOUNS.get(kind, kind)) for kind, count in counts.items())


def _path(name: str) -> Path:
    return Path(name).expanduser().absolute()
