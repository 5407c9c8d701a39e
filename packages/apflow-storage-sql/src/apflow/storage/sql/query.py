"""Queries in SQL over the history of tasks: the part that both stores share.

A query runs in a separate process, on copies of the tables that it names. So it can neither change the
database nor read more of it than the views have, and it cannot use the memory of the process that runs trees.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.model.sql_query import ResultColumn, SqlQuery, SqlResult
from apflow.storage.sql.query_views import sources_of, views_in
from apflow.storage.sql.statistics import SqlStatisticsStore

PROGRAM: Final = "apflow.storage.duckdb.query_program"
# What the program reads and writes in its folder.
JOB_FILE: Final = "job.json"
RESULT_FILE: Final = "result.json"
PARQUET_FILE: Final = "result.parquet"
LOG_FILE: Final = "log.txt"


class SqlQueryStore(SqlStatisticsStore):
    """The part of a store that answers queries in SQL."""

    async def query(self, query: SqlQuery) -> SqlResult:
        if not _has_program():
            raise InvalidInputError(
                f"{self.url} cannot be queried without DuckDB. Install apflow-storage-duckdb."
            )
        deadline = time.monotonic() + query.timeout
        views = views_in(query.text)
        # A copy that was stopped may still be ending.
        with tempfile.TemporaryDirectory(prefix="apflow-query-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            try:
                async with asyncio.timeout(query.timeout):
                    files = await self._copy_sources(sources_of(views), folder)
            except TimeoutError as error:
                raise _too_slow(query) from error
            job = {
                "text": query.text,
                "views": views,
                "files": {source: path.name for source, path in files.items()},
                "limit": query.limit,
                "is_parquet": query.is_parquet,
                "seconds": query.timeout,
            }
            (folder / JOB_FILE).write_text(json.dumps(job), encoding="utf-8")
            await _run_program(folder, query, deadline)
            return await asyncio.to_thread(_read_result, folder)

    @abstractmethod
    async def _copy_sources(self, names: Sequence[str], folder: Path) -> Mapping[str, Path]:
        """Copy the sources of these names to files of a folder, as of one moment. Cancelling stops it."""


def _has_program() -> bool:
    try:
        return find_spec("apflow.storage.duckdb") is not None
    except ModuleNotFoundError:
        return False


def _too_slow(query: SqlQuery) -> InvalidInputError:
    return InvalidInputError(
        f"The query was stopped after {query.timeout:g} s. Read less, or raise the limit (timeout)."
    )


async def _run_program(folder: Path, query: SqlQuery, deadline: float) -> None:
    """Run the program until it has written its result. It is killed at the deadline, or when cancelled."""
    with (folder / LOG_FILE).open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  returns at once
            [sys.executable, "-P", "-m", PROGRAM, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
    try:
        code = await asyncio.to_thread(process.wait, max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise _too_slow(query) from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()  # it was killed
    if code < 0:  # by a signal
        raise InvalidInputError(
            "The query was stopped: it uses too much memory or time. Read less, or sum it up."
        )
    if code or not (folder / RESULT_FILE).exists():
        log_text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
        raise StoreError(f"The query failed for an internal reason: {log_text[-2000:].strip()}")


def _read_result(folder: Path) -> SqlResult:
    found: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    if "error" in found:
        raise InvalidInputError(found["error"])
    parquet = folder / PARQUET_FILE
    return SqlResult(
        columns=[ResultColumn(*each) for each in found["columns"]],
        rows=found["rows"],
        row_count=found["row_count"],
        has_more=found["has_more"],
        parquet=parquet.read_bytes() if parquet.exists() else None,
    )
