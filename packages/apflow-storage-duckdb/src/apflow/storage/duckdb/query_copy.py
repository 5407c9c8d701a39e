"""Copies the tables that a query in SQL names into Parquet files, as of one moment."""

# ruff: noqa: S608  # only names of this package and the path of a file are interpolated

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Final

import duckdb

from apflow.storage.duckdb.database import Database, literal
from apflow.storage.duckdb.large_values import MARK, VALUES
from apflow.storage.duckdb.query_program import LARGE_VALUES
from apflow.storage.sql.columns import EVENTS
from apflow.storage.sql.query_views import SOURCES

# A row group is held in memory until it is complete, and rows may have kilobytes.
_FORMAT: Final = "(FORMAT parquet, ROW_GROUP_SIZE 4096)"
_OF_PAGES: Final = (
    f"SELECT number, part, body FROM {VALUES} WHERE number IN ("
    f"SELECT CAST(substr(body, {len(MARK) + 1}) AS BIGINT) FROM {EVENTS} WHERE body >= '{MARK}')"
)


class SourceCopy:
    """One copy of sources, which another thread may stop."""

    def __init__(self, database: Database, names: Sequence[str], folder: Path) -> None:
        self._database, self._folder = database, folder
        self._selects = {name: SOURCES[name].select for name in names}
        if "events" in names:
            self._selects[LARGE_VALUES] = _OF_PAGES
        self._is_stopped = Event()
        self._running = Lock()
        self._guard = Lock()  # so that no read is interrupted that uses the same cursor afterwards
        self._cursor: duckdb.DuckDBPyConnection | None = None

    def run(self) -> Mapping[str, Path]:
        """Write the files, in one transaction, and return their paths.

        Raises:
            duckdb.Error: the database cannot be read, the files cannot be written, or the copy was stopped.
        """
        files = {name: self._folder / f"{name}.parquet" for name in self._selects}
        with self._running:
            if not self._is_stopped.is_set():
                self._write(files)
        return files

    def _write(self, files: Mapping[str, Path]) -> None:
        with self._database.cursor() as cursor:
            self._cursor = cursor
            try:
                cursor.begin()  # fixes the snapshot
                for name, select in self._selects.items():
                    if self._is_stopped.is_set():
                        break
                    cursor.execute(f"COPY ({select}) TO {literal(str(files[name]))} {_FORMAT}")
                cursor.rollback()
            finally:
                with self._guard:
                    self._cursor = None

    def stop(self) -> None:
        """Let `run` do nothing more, and wait until it has ended."""
        self._is_stopped.set()
        with self._guard:
            if self._cursor is not None:
                self._cursor.interrupt()
        with self._running:
            pass
