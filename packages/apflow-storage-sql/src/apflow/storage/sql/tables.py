"""The tables as SQLAlchemy knows them, for reports and tools. The stores themselves do not need them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Double, Integer, MetaData, String, Table
from sqlalchemy.types import TypeEngine

from apflow.storage.sql.columns import ATTEMPTS, BASE, EVENTS, LOGS, RECORDS, SCHEMA, TASKS, USAGE

_TYPES: dict[str, type[TypeEngine[Any]]] = {
    "VARCHAR": String,
    "INTEGER": Integer,
    "BIGINT": BigInteger,
    "BOOLEAN": Boolean,
    "DOUBLE PRECISION": Double,
    "TIMESTAMP": DateTime,
}

metadata = MetaData()

tasks = Table(
    TASKS,
    metadata,
    # Ascending in order of adding: batches are joined by it, which is cheaper than by text.
    Column("row_number", BigInteger, nullable=False),
    *(Column(each.name, _TYPES[each.sql_type](), primary_key=each.name == "id") for each in BASE),
)

events = Table(
    EVENTS,
    metadata,
    Column("root_id", String, nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("stored_at", DateTime, nullable=False),
    Column("body", String, nullable=False),
)

attempts = Table(
    ATTEMPTS,
    metadata,
    Column("task_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", DateTime),
    Column("ended_at", DateTime),
    Column("outcome", String),
    Column("error", String),
    Column("error_type", String),
    Column("traceback", String),
)

logs = Table(
    LOGS,
    metadata,
    Column("number", BigInteger, nullable=False),
    Column("root_id", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("top_level", Integer, nullable=False),
    Column("stored_at", DateTime, nullable=False),
    Column("body", String, nullable=False),
)

records = Table(
    RECORDS,
    metadata,
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)

usage = Table(
    USAGE,
    metadata,
    Column("task_id", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("root_id", String, nullable=False),
    Column("top_id", String, nullable=False),
    Column("user_id", String),
    Column("last_at", DateTime, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
    Column("estimated_calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("seconds", Double, nullable=False),
)

schema = Table(
    SCHEMA,
    metadata,
    Column("version", Integer, nullable=False),
    Column("applied_at", DateTime, nullable=False),
)
