"""The schema, version by version.

A migration is never edited after its release: a database can be at any version, and applies all later
migrations. The statements work on both DuckDB and PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from apflow.core.errors import StoreVersionError

# Version n is what the n-th entry makes of version n - 1; version 0 is an empty database.
MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        """CREATE TABLE apflow_tasks (
            row_number BIGINT NOT NULL,
            id VARCHAR NOT NULL PRIMARY KEY,
            parent_id VARCHAR,
            root_id VARCHAR NOT NULL,
            user_id VARCHAR,
            name VARCHAR NOT NULL,
            status VARCHAR NOT NULL,
            priority INTEGER NOT NULL,
            dependencies VARCHAR,
            inputs VARCHAR,
            params VARCHAR,
            schemas VARCHAR,
            policy VARCHAR,
            result VARCHAR,
            error VARCHAR,
            progress DOUBLE PRECISION NOT NULL,
            has_children BOOLEAN NOT NULL,
            attempts INTEGER NOT NULL,
            created_at TIMESTAMP NOT NULL,
            started_at TIMESTAMP,
            updated_at TIMESTAMP,
            completed_at TIMESTAMP,
            original_task_id VARCHAR,
            has_copy BOOLEAN NOT NULL,
            position INTEGER NOT NULL,
            executor VARCHAR,
            generation INTEGER NOT NULL,
            interruptions INTEGER NOT NULL,
            not_before TIMESTAMP,
            cancel_requested_at TIMESTAMP,
            owner VARCHAR,
            run_requested_at TIMESTAMP,
            run_scope VARCHAR,
            run_owner VARCHAR,
            lease_until TIMESTAMP,
            run_ended_at TIMESTAMP,
            last_event BIGINT NOT NULL
        )""",
        """CREATE TABLE apflow_events (
            root_id VARCHAR NOT NULL,
            first_sequence BIGINT NOT NULL,
            last_sequence BIGINT NOT NULL,
            stored_at TIMESTAMP NOT NULL,
            body VARCHAR NOT NULL
        )""",
    ),
    (
        """CREATE TABLE apflow_records (
            kind VARCHAR NOT NULL,
            key VARCHAR NOT NULL,
            value VARCHAR NOT NULL,
            version BIGINT NOT NULL,
            updated_at TIMESTAMP NOT NULL,
            PRIMARY KEY (kind, key)
        )""",
    ),
    # The marker of groups was a word that an executor can have as its id.
    ("UPDATE apflow_tasks SET executor = ':group' WHERE executor = 'group'",),
    ("ALTER TABLE apflow_tasks ADD COLUMN written_by VARCHAR",),
    # Without it, DuckDB reads the events of all trees to find those of one. PostgreSQL has its own.
    ("CREATE INDEX apflow_events_root ON apflow_events (root_id)",),
    # Large values, in parts, for DuckDB: PostgreSQL itself stores large values outside their rows.
    # Compressing them would take most of the time of a checkpoint.
    (
        """CREATE TABLE apflow_values (
            number BIGINT NOT NULL,
            part BIGINT NOT NULL,
            body VARCHAR USING COMPRESSION uncompressed NOT NULL
        )""",
    ),
    # What a task is called within its tree; NULL where that is its id.
    ("ALTER TABLE apflow_tasks ADD COLUMN key VARCHAR",),
    # Without an index, which would cost each insertion more than it saves the few reads in DuckDB.
    (
        "ALTER TABLE apflow_tasks ADD COLUMN earlier_attempts INTEGER DEFAULT 0",
        """CREATE TABLE apflow_attempts (
            task_id VARCHAR NOT NULL,
            number INTEGER NOT NULL,
            started_at TIMESTAMP,
            ended_at TIMESTAMP,
            outcome VARCHAR,
            error VARCHAR,
            error_type VARCHAR,
            traceback VARCHAR
        )""",
    ),
    # Lines that tasks log: consecutive ones of one attempt share a row.
    (
        """CREATE TABLE apflow_logs (
            number BIGINT NOT NULL,
            root_id VARCHAR NOT NULL,
            task_id VARCHAR NOT NULL,
            attempt INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            top_level INTEGER NOT NULL,
            stored_at TIMESTAMP NOT NULL,
            body VARCHAR NOT NULL
        )""",
        "CREATE SEQUENCE apflow_log_numbers",
        "CREATE INDEX apflow_logs_root ON apflow_logs (root_id)",
    ),
    (
        "ALTER TABLE apflow_tasks ADD COLUMN spawned_by VARCHAR",
        "ALTER TABLE apflow_tasks ADD COLUMN child_trees VARCHAR",
    ),
    # What the calls of language models used. It outlives the tasks.
    (
        """CREATE TABLE apflow_usage (
            task_id VARCHAR NOT NULL,
            model VARCHAR NOT NULL,
            root_id VARCHAR NOT NULL,
            top_id VARCHAR NOT NULL,
            user_id VARCHAR,
            last_at TIMESTAMP NOT NULL,
            calls BIGINT NOT NULL,
            unpriced_calls BIGINT NOT NULL,
            estimated_calls BIGINT NOT NULL,
            input_tokens BIGINT NOT NULL,
            output_tokens BIGINT NOT NULL,
            cached_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL,
            cost_usd DOUBLE PRECISION NOT NULL,
            seconds DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (task_id, model)
        )""",
    ),
    (
        "ALTER TABLE apflow_tasks ADD COLUMN label VARCHAR",
        "ALTER TABLE apflow_tasks ADD COLUMN tags VARCHAR",
    ),
    # Results that other tasks may take. DuckDB reads the column faster than it would keep an index.
    (
        "ALTER TABLE apflow_tasks ADD COLUMN cached_from VARCHAR",
        "ALTER TABLE apflow_tasks ADD COLUMN cache_key VARCHAR",
        "ALTER TABLE apflow_tasks ADD COLUMN run_ignores_cache BOOLEAN DEFAULT FALSE",
    ),
    # The journal beside a DuckDB file, and how much of it is in the tables. Only DuckDB has one.
    (
        """CREATE TABLE apflow_journal (
            identity VARCHAR NOT NULL,
            applied BIGINT NOT NULL,
            is_open BOOLEAN NOT NULL
        )""",
    ),
)

LATEST = len(MIGRATIONS)

CREATE_SCHEMA_TABLE = (
    "CREATE TABLE IF NOT EXISTS apflow_schema (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)"
)
READ_VERSION = "SELECT coalesce(max(version), 0) FROM apflow_schema"
WRITE_VERSION = "INSERT INTO apflow_schema (version, applied_at) VALUES ($1, $2)"


def migrations_after(
    found: int,
    url: str,
    latest: int | None = None,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
) -> Iterator[tuple[int, Sequence[str]]]:
    """Give each version that a database at version `found` lacks, with its statements.

    Args:
        latest: the version to end at; None for the newest.
        migrations: the versions, where a store has other ones than those above.

    Raises:
        StoreVersionError: the database is newer than this program.
    """
    if found > len(migrations):
        raise StoreVersionError(url, found, len(migrations))
    yield from enumerate(migrations[found:latest], start=found + 1)
