"""The tables and the SQL of calls that one process makes for another; see `CallExchange`.

The tables are unlogged: a call lives no longer than the processes that are its sides, and a server that fails
loses it.
"""

# ruff: noqa: S608  # only constants are interpolated; values are parameters

from __future__ import annotations

from typing import Final

CALLS: Final = "apflow_calls"
MESSAGES: Final = "apflow_call_messages"
PARTIES: Final = "apflow_call_parties"

OFFERS_CHANNEL: Final = "apflow_calls"  # of notices that there are offers
FORGOTTEN_SECONDS: Final = 60  # after the last sign of life of a party, until it is removed
PAGE: Final = 1000  # messages that are read at once

CREATE: Final = (
    f"CREATE UNLOGGED TABLE {PARTIES} ("
    'id VARCHAR COLLATE "C" NOT NULL PRIMARY KEY, seen_until TIMESTAMPTZ NOT NULL, '
    "channel VARCHAR NOT NULL, offer JSONB) WITH (fillfactor = 50)",
    f"CREATE UNLOGGED TABLE {CALLS} ("
    'id VARCHAR COLLATE "C" NOT NULL PRIMARY KEY, number BIGINT GENERATED ALWAYS AS IDENTITY, '
    'owner VARCHAR COLLATE "C" NOT NULL, task_id VARCHAR COLLATE "C" NOT NULL, executor_id VARCHAR NOT NULL, '
    "user_id VARCHAR NOT NULL, priority INTEGER NOT NULL, amounts JSONB NOT NULL, labels JSONB NOT NULL, "
    'is_importable BOOLEAN NOT NULL, body TEXT NOT NULL, worker VARCHAR COLLATE "C") WITH (fillfactor = 50)',
    f"CREATE INDEX apflow_calls_worker ON {CALLS} (worker)",
    f"CREATE INDEX apflow_calls_task ON {CALLS} (task_id)",
    f"CREATE UNLOGGED TABLE {MESSAGES} ("
    "number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
    'receiver VARCHAR COLLATE "C" NOT NULL, call_id VARCHAR COLLATE "C" NOT NULL, body TEXT NOT NULL)',
    f"CREATE INDEX apflow_call_messages_receiver ON {MESSAGES} (receiver, number)",
)

# Of a party that is there. A time that is too far ahead was written before the server's clock was set back.
_LIVE: Final = "seen_until > clock_timestamp() AND seen_until < clock_timestamp() + INTERVAL '1 hour'"
_IS_THERE: Final = f"EXISTS (SELECT FROM {PARTIES} AS party WHERE party.id = {{}} AND {_LIVE})"

KEEP: Final = (
    f"INSERT INTO {PARTIES} (id, seen_until, channel, offer) "
    "VALUES ($1, clock_timestamp() + $2::INTERVAL, $3, $4::JSONB) "
    "ON CONFLICT (id) DO UPDATE SET seen_until = excluded.seen_until"
)
_LONG_AGO: Final = f"clock_timestamp() - INTERVAL '{FORGOTTEN_SECONDS} seconds'"
FORGET: Final = (
    f"DELETE FROM {PARTIES} WHERE seen_until < {_LONG_AGO}",
    f"DELETE FROM {CALLS} WHERE NOT EXISTS (SELECT FROM {PARTIES} WHERE {PARTIES}.id = owner)",
    f"DELETE FROM {MESSAGES} WHERE NOT EXISTS (SELECT FROM {PARTIES} WHERE {PARTIES}.id = receiver)",
)
LEAVE: Final = (
    f"WITH gone AS (DELETE FROM {PARTIES} WHERE id = $1) DELETE FROM {MESSAGES} WHERE receiver = $1"
)
WORKERS: Final = (
    f"SELECT id, offer, (SELECT count(*) FROM {CALLS} WHERE worker = {PARTIES}.id) "
    f"FROM {PARTIES} WHERE offer IS NOT NULL AND {_LIVE} ORDER BY id"
)

OFFER: Final = (
    f"WITH added AS (INSERT INTO {CALLS} "
    "(id, owner, task_id, executor_id, user_id, priority, amounts, labels, is_importable, body) "
    "SELECT id, owner, task_id, executor_id, user_id, priority, amounts::JSONB, labels::JSONB, "
    "is_importable, body FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], "
    "$6::INTEGER[], $7::TEXT[], $8::TEXT[], $9::BOOLEAN[], $10::TEXT[]) WITH ORDINALITY AS given "
    "(id, owner, task_id, executor_id, user_id, priority, amounts, labels, is_importable, body, place) "
    "ORDER BY place RETURNING id) "
    f"SELECT pg_notify('{OFFERS_CHANNEL}', '') FROM (SELECT count(*) FROM added) AS counted"
)
WITHDRAW: Final = f"DELETE FROM {CALLS} WHERE id = ANY($1::TEXT[]) AND worker IS NULL RETURNING id"
WAITING: Final = (
    f"SELECT executor_id, amounts, labels, is_importable, worker FROM {CALLS} "
    "WHERE task_id = $1 ORDER BY number DESC LIMIT 1"
)

# By turns between users: each call of one counts those that run and those before it.
CANDIDATES: Final = (
    f"SELECT id, amounts FROM {CALLS} AS call "
    f"LEFT JOIN (SELECT user_id, count(*) AS running FROM {CALLS} WHERE worker IS NOT NULL GROUP BY user_id) "
    "AS busy USING (user_id) "
    "WHERE worker IS NULL AND (executor_id = ANY($1::TEXT[]) OR (is_importable AND $2)) "
    "AND labels <@ $3::JSONB "
    "AND NOT EXISTS (SELECT FROM jsonb_each_text(amounts) AS needed "
    "WHERE needed.value::FLOAT8 > coalesce(($4::JSONB ->> needed.key)::FLOAT8, 0)) "
    f"AND {_IS_THERE.format('call.owner')} "
    "ORDER BY priority, coalesce(running, 0) + row_number() OVER (PARTITION BY user_id ORDER BY priority, "
    "number), number LIMIT $5"
)
_TAKEN: Final = "id, owner, amounts, body"
TAKE: Final = (
    f"UPDATE {CALLS} SET worker = $1 WHERE id IN (SELECT id FROM {CALLS} WHERE id = ANY($2::TEXT[]) "
    f"AND worker IS NULL FOR UPDATE SKIP LOCKED) RETURNING {_TAKEN}, number"
)
TAKEN_BEFORE: Final = (
    f"SELECT {_TAKEN}, number FROM {CALLS} WHERE worker = $1 AND NOT id = ANY($2::TEXT[]) ORDER BY number"
)

POST: Final = (
    f"WITH gone AS (DELETE FROM {CALLS} WHERE id = ANY($4::TEXT[])), "
    f"added AS (INSERT INTO {MESSAGES} (receiver, call_id, body) SELECT receiver, call_id, body "
    "FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) WITH ORDINALITY "
    "AS given (receiver, call_id, body, place) "
    f"WHERE EXISTS (SELECT FROM {PARTIES} WHERE id = receiver) ORDER BY place RETURNING receiver) "
    f"SELECT pg_notify(channel, '') FROM {PARTIES} WHERE id IN (SELECT receiver FROM added)"
)
COLLECT: Final = (
    f"WITH gone AS (DELETE FROM {MESSAGES} WHERE receiver = $1 AND number = ANY($2::BIGINT[])) "
    f"SELECT number, call_id, body FROM {MESSAGES} WHERE receiver = $1 AND NOT number = ANY($2::BIGINT[]) "
    f"ORDER BY number LIMIT {PAGE}"
)
LOST: Final = (
    f"WITH gone AS (DELETE FROM {CALLS} WHERE id = ANY($2::TEXT[]) AND ("
    f"(owner = $1 AND worker IS NOT NULL AND NOT {_IS_THERE.format('worker')}) "
    f"OR (worker = $1 AND NOT {_IS_THERE.format('owner')})) RETURNING id) "
    "SELECT id FROM gone UNION ALL SELECT given.id FROM unnest($2::TEXT[]) AS given (id) "
    f"WHERE NOT EXISTS (SELECT FROM {CALLS} AS there WHERE there.id = given.id)"
)
