"""Opening a database with a journal: the records that are not in the file yet are applied.

The table `apflow_journal` of the database names its journal. Both say how far they are, so a journal that
belongs to another file, or to an earlier state of it, is refused.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from apflow.core.errors import StoreDamagedError
from apflow.storage.duckdb.batch import together
from apflow.storage.duckdb.journal import ADVICE, Journal, journal_of, remove_incomplete, set_aside
from apflow.storage.duckdb.record import decoded
from apflow.storage.duckdb.row_writer import RowWriter
from apflow.storage.sql.columns import BASE

READ: Final = "SELECT identity, applied, is_open FROM apflow_journal"
FORGET: Final = "DELETE FROM apflow_journal"
BEGIN: Final = "INSERT INTO apflow_journal VALUES ($1, 0, TRUE)"
NOTE_APPLIED: Final = "UPDATE apflow_journal SET applied = $1"
END: Final = "UPDATE apflow_journal SET is_open = FALSE"
MAX_ROWS: Final = 5000  # of one transaction

logger = logging.getLogger(__name__)


class Mark(NamedTuple):
    """What the database says of its journal.

    Attributes:
        applied: the number of the last record that the database has.
        is_open: whether the journal may have records that the database does not have.
    """

    identity: str
    applied: int
    is_open: bool


def recover(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Apply what a journal has and the database does not, and remove the journal.

    Args:
        path: the file of the database.

    Raises:
        StoreDamagedError: the journal is missing or damaged, or belongs to another file. Nothing is changed.
        StoreError: the journal cannot be read.
        duckdb.Error: the records cannot be written. What is not, stays in the journal.
    """
    rows = connection.execute(READ).fetchall()
    mark = Mark(*rows[0]) if rows else None
    file = journal_of(path)
    remove_incomplete(file)
    if not file.exists():
        if mark is not None and mark.is_open:
            raise _refused(
                path, f"its journal {file} is missing. It may have changes that the database lacks."
            )
        return
    journal = Journal.open(file)
    try:
        check(path, mark, journal)
        if mark is not None and mark.is_open and journal.identity == mark.identity:
            _apply(connection, journal, mark.applied)
    except BaseException:
        journal.close()
        raise
    journal.remove()


def check(path: Path, mark: Mark | None, journal: Journal) -> None:
    """Raise `StoreDamagedError` unless a journal belongs to the present state of a database."""
    if mark is not None and mark.identity == journal.identity:
        if journal.last < mark.applied:
            raise _refused(
                path,
                f"its journal {journal.path} ends with record {journal.last}, and the database has the "
                f"records up to {mark.applied}: the journal is older than the database.",
            )
        if not mark.is_open and journal.last > mark.applied:
            raise _refused(
                path,
                f"its journal {journal.path} has records up to {journal.last}, and the database those up "
                f"to {mark.applied}: the database is older than the journal.",
            )
        for _ in journal.after(mark.applied):  # every record is there and intact
            pass
    elif journal.last:
        raise _refused(path, f"the journal {journal.path} belongs to another database.")
    elif mark is not None and mark.is_open:
        raise _refused(path, f"the journal {journal.path} is new, and the database has another one.")


def discard(connection: duckdb.DuckDBPyConnection, path: Path) -> Path | None:
    """Make a database ready to be opened without its journal, which is kept under another name.

    Returns:
        where the journal is now; None if there was none.
    """
    connection.execute(END)
    file = journal_of(path)
    return set_aside(file) if file.exists() else None


def _apply(connection: duckdb.DuckDBPyConnection, journal: Journal, applied: int) -> None:
    writer = RowWriter(connection.execute)
    count = 0
    for batch in together((decoded(body, number) for number, body in journal.after(applied)), MAX_ROWS):
        connection.begin()
        try:
            writer.write(batch, BASE)
            connection.execute(NOTE_APPLIED, [batch.number])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        count, applied = count + batch.number - applied, batch.number
    connection.execute(END)
    if count:
        logger.warning("%s: applied %d changes that an ended process had acknowledged.", journal.path, count)


def _refused(path: Path, cause: str) -> StoreDamagedError:
    return StoreDamagedError(str(path), cause, f"{ADVICE} Nothing was changed.")
