"""The SQL of the store, made once per form and kept. Of many rows, each column comes as a list."""

# ruff: noqa: S608  # only trusted column names are interpolated; values are parameters

from __future__ import annotations

from functools import cache

from apflow.storage.sql.attempts import SLOTS
from apflow.storage.sql.columnar import Slot
from apflow.storage.sql.columns import ATTEMPTS, EVENTS, LOGS, RECORDS, TASKS, USAGE, TaskColumn, quoted
from apflow.storage.sql.ledger import GUARDS

NOW = "(clock_timestamp() AT TIME ZONE 'UTC')"
TABLES = (TASKS, EVENTS, ATTEMPTS, LOGS, RECORDS, USAGE)
_SIZES = " + ".join(f"pg_total_relation_size('{each}')" for each in TABLES)
SIZE = f"SELECT ({_SIZES})::BIGINT"  # bytes
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
# An older request counts as more urgent, by one priority a minute, so that none waits indefinitely.
URGENCY = f"priority - extract(epoch FROM {NOW} - run_requested_at) / 60, created_at, id"


def mark(writer: str, batch: str) -> str:
    """Return the statement that notes the number of a writer's batch, with the names of its parameters."""
    return (
        f"INSERT INTO apflow_writers (id, batch, seen_at) VALUES ({writer}, {batch}, {NOW}) ON CONFLICT (id) "
        "DO UPDATE SET batch = excluded.batch, seen_at = excluded.seen_at RETURNING batch"
    )


MARK = mark("$1", "$2")


@cache
def lock(names: tuple[str, ...]) -> str:
    """Return the statement that locks rows and reads their guards, and the columns of these names.

    Parameters: ids of roots, which are locked first; ids of all rows; the writer, and the number of its
    batch, which is noted before all. Rows are locked in order of id, so that no two transactions wait for
    each other. The first column is that number, and there is always a row. As a row that was locked is
    read as it is by then, what is read is the newest.
    """
    columns = ", ".join(map(quoted, ("id", "root_id", "last_event", "next_position", *GUARDS, *names)))
    return (
        f"WITH mark AS ({mark('$3', '$4')}), roots AS MATERIALIZED ("
        f"SELECT id FROM {TASKS} WHERE id = ANY($1::VARCHAR[]) ORDER BY id FOR UPDATE"
        f"), named AS MATERIALIZED (SELECT {columns} FROM {TASKS} "
        f"WHERE id = ANY($2::VARCHAR[]) AND (SELECT count(*) FROM roots) IS NOT NULL ORDER BY id FOR UPDATE"
        f") SELECT (SELECT batch FROM mark), named.* FROM (VALUES (1)) AS once LEFT JOIN named ON true"
    )


def _is_over(longest: str) -> str:
    """Return the condition that a lease has run out, or was given before the server's clock was set back."""
    return f"(lease_until IS NULL OR NOT lease_until BETWEEN {NOW} AND {NOW} + {longest}::INTERVAL)"


@cache
def unowned(selected: str, *, is_among: bool) -> str:
    """Return the statement that reads roots whose run is requested and that no living process owns.

    Parameters: how many; the longest time that a lease may have left; the ids among which to look.
    """
    among = " AND id = ANY($3::VARCHAR[])" if is_among else ""
    return (
        f"SELECT {selected} FROM {TASKS} WHERE run_requested_at IS NOT NULL AND id = root_id{among} "
        f"AND (run_owner IS NULL OR {_is_over('$2')}) "
        f"ORDER BY {URGENCY} LIMIT $1"
    )


@cache
def reserve(selected: str) -> str:
    """Return the statement that reads what `unowned` does, and gives it a lease without an owner.

    Parameters: how many; ids of roots that are not wanted; how long; the longest time that a lease may
    have left.
    """
    names = ", ".join(f"t.{name}" for name in selected.split(", "))
    return (
        f"WITH free AS MATERIALIZED (SELECT id FROM {TASKS} "
        "WHERE run_requested_at IS NOT NULL AND id = root_id "
        f"AND {_is_over('$4')} AND id <> ALL($2::VARCHAR[]) "
        f"ORDER BY {URGENCY} LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) "
        f"UPDATE {TASKS} AS t SET run_owner = NULL, lease_until = {NOW} + $3::INTERVAL "
        f"FROM free WHERE t.id = free.id RETURNING {names}"
    )


@cache
def insert(slots: tuple[Slot, ...], table: str = TASKS) -> str:
    """Return the statement that adds rows: a parameter for each slot."""
    names = ", ".join(quoted(slot.name) for slot in slots)
    lists = [(at, slot) for at, slot in enumerate(slots, start=1) if not slot.is_same]
    values = ", ".join(
        f"${at}::{slot.sql_type}" if slot.is_same else f"v.c{at}" for at, slot in enumerate(slots, start=1)
    )
    if not lists:
        return f"INSERT INTO {table} ({names}) VALUES ({values})"
    unnested = ", ".join(f"${at}::{slot.sql_type}[]" for at, slot in lists)
    aliases = ", ".join(f"c{at}" for at, _ in lists)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM unnest({unnested}) AS v({aliases})"


@cache
def update(columns: tuple[TaskColumn, ...]) -> str:
    """Return the statement that changes rows: the list of their ids, then a list for each column."""
    numbered = list(enumerate(columns, start=2))
    sets = ", ".join(f"{quoted(column.name)} = v.c{at}" for at, column in numbered)
    lists = ", ".join(f"${at}::{column.sql_type}[]" for at, column in numbered)
    aliases = ", ".join(f"c{at}" for at, _ in numbered)
    return (
        f"UPDATE {TASKS} AS t SET {sets} "
        f"FROM unnest($1::VARCHAR[], {lists}) AS v(id, {aliases}) WHERE t.id = v.id"
    )


@cache
def update_one(columns: tuple[TaskColumn, ...]) -> str:
    """Return the statement that changes one row: its id, then a value for each column."""
    sets = ", ".join(f"{quoted(column.name)} = ${at}" for at, column in enumerate(columns, start=2))
    return f"UPDATE {TASKS} SET {sets} WHERE id = $1"


ROOTS_OF = f"SELECT DISTINCT root_id FROM {TASKS} WHERE id = ANY($1::VARCHAR[])"
POSITIONS = (
    f"SELECT root_id, max(position) + 1 FROM {TASKS} WHERE root_id = ANY($1::VARCHAR[]) GROUP BY root_id"
)
SEQUENCES = (
    f"SELECT root_id, max(last_sequence) FROM {EVENTS} WHERE root_id = ANY($1::VARCHAR[]) GROUP BY root_id"
)
DELETE = f"DELETE FROM {TASKS} WHERE id = ANY($1::VARCHAR[])"
DELETE_EVENTS = f"DELETE FROM {EVENTS} WHERE root_id = ANY($1::VARCHAR[])"
# Events, and in the same round trip the number of the last one of each tree.
INSERT_PAGES = (
    f"WITH counted AS (UPDATE {TASKS} AS t SET last_event = c.last "
    "FROM unnest($6::VARCHAR[], $7::BIGINT[]) AS c(id, last) WHERE t.id = c.id) "
    f"INSERT INTO {EVENTS} (root_id, first_sequence, last_sequence, body, stored_at) "
    "SELECT v.*, $5 FROM unnest($1::VARCHAR[], $2::BIGINT[], $3::BIGINT[], $4::VARCHAR[]) AS v"
)
INSERT_ATTEMPTS = insert(SLOTS, ATTEMPTS)
READ_EVENTS = (
    f"SELECT body FROM {EVENTS} WHERE root_id = $1 AND last_sequence > $2 ORDER BY first_sequence LIMIT $3"
)
DELETE_OLD_WRITERS = f"DELETE FROM apflow_writers WHERE seen_at < {NOW} - INTERVAL '2 days'"
DELETE_OLD_EVENTS = f"DELETE FROM {EVENTS} WHERE stored_at < $1"
LEASE_UNTIL = f"SELECT {NOW} + $1::INTERVAL"
# Parameters: owner, ids of roots, lease. A run that has ended keeps the lease that it had.
RENEW = (
    f"WITH own AS MATERIALIZED (SELECT id FROM {TASKS} "
    "WHERE id = ANY($2::VARCHAR[]) AND run_owner = $1 ORDER BY id FOR UPDATE"
    f"), renewed AS (UPDATE {TASKS} AS t SET lease_until = {NOW} + $3::INTERVAL FROM own "
    "WHERE t.id = own.id AND t.run_requested_at IS NOT NULL AND t.run_ended_at IS NULL"
    f") SELECT own.id, EXISTS (SELECT FROM {TASKS} AS t WHERE t.root_id = own.id "
    "AND t.cancel_requested_at IS NOT NULL AND t.status = 'in_progress') FROM own"
)
# Waits for a running transaction of this writer, which locks the row from its first statement.
LAST_BATCH = (
    f"INSERT INTO apflow_writers (id, batch, seen_at) VALUES ($1, 0, {NOW}) "
    "ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at RETURNING batch"
)
