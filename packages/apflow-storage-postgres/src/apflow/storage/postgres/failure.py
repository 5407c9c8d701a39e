"""Classifies errors of the driver: whether they are transient, and the message for users. Pure."""

from __future__ import annotations

import ssl

import asyncpg
from asyncpg import exceptions as pg

from apflow.core.errors import ApflowError, StoreError, StoreUnavailableError

# The connection is lost, or none is available at the moment.
_LOST = (
    pg.PostgresConnectionError,
    pg.ConnectionDoesNotExistError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.CannotConnectNowError,
    pg.DatabaseDroppedError,
    pg.IdleInTransactionSessionTimeoutError,
    pg.TooManyConnectionsError,
    pg.InternalClientError,  # the server's words were cut off
    OSError,  # TimeoutError is one
    EOFError,
)
# The server lacks room, or is a replica that takes no writes: the same may succeed later.
_LACKING = (pg.DiskFullError, pg.OutOfMemoryError, pg.PostgresIOError, pg.ReadOnlySQLTransactionError)
# Another writer came first: the same may succeed once more.
_RACES = (pg.SerializationError, pg.DeadlockDetectedError, pg.UniqueViolationError)


def is_connection_lost(error: BaseException) -> bool:
    """Return whether the connection ended, or could not be made, for a transient reason."""
    if isinstance(error, ssl.SSLError):
        return False
    if isinstance(error, asyncpg.InterfaceError):
        return "connection" in str(error) and not isinstance(error, asyncpg.ClientConfigurationError)
    return isinstance(error, _LOST)


def is_lost_race(error: BaseException) -> bool:
    """Return whether a transaction was refused because of a concurrent one."""
    return isinstance(error, _RACES)


def is_of_a_change(error: BaseException) -> bool:
    """Return whether an error is caused by the data to write, not by the connection or the store."""
    return not isinstance(error, (ApflowError, *_LACKING)) and not is_connection_lost(error)


def explain(error: BaseException, url: str) -> BaseException:
    """Return the error to raise to the caller: what happened, where, and what to do."""
    if isinstance(error, ApflowError) or not isinstance(
        error, asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError | OSError
    ):
        return error
    reason = _passing_reason(error)
    described = (
        StoreError(f"{url} {_what(error)}")
        if reason is None
        else StoreUnavailableError(url, reason, _what(error))
    )
    described.__cause__ = error
    return described


def _passing_reason(error: BaseException) -> str | None:
    """Return, in words that name no host, why the server cannot work for the moment; None otherwise."""
    match error:
        case pg.DiskFullError():
            return "the disk of the database server is full"
        case pg.OutOfMemoryError():
            return "the database server has no memory left"
        case pg.ReadOnlySQLTransactionError():
            return "the database server takes no writes"
        case pg.PostgresIOError():
            return "the database server cannot read or write its files"
        case _ if is_connection_lost(error):
            return "the database server cannot be reached"
        case _:
            return None


def _what(error: BaseException) -> str:  # noqa: C901 - one case for each kind of failure
    match error:
        case pg.InvalidAuthorizationSpecificationError():
            return f"refused the login ({_text(error)}). Check user and password in APFLOW_DATABASE_URL."
        case pg.InvalidCatalogNameError():
            return f"is not there: {_text(error)}. Create it (createdb), or correct the URL."
        case pg.InsufficientPrivilegeError():
            return f"denies this user access: {_text(error)}. Grant it CREATE on the schema, and the tables."
        case pg.TooManyConnectionsError():
            return f"has no connection free: {_text(error)}. Raise max_connections, or use a pooler."
        case pg.DiskFullError() | pg.OutOfMemoryError() | pg.PostgresIOError():
            return f"cannot write now: {_text(error)}. Make room on the server; what waits is then written."
        case pg.ReadOnlySQLTransactionError():
            return f"takes no writes: {_text(error)}. Connect to the primary server, not to a replica."
        case pg.LockNotAvailableError() | pg.QueryCanceledError():
            return (
                f"took too long: {_text(error)}. Look for other sessions that hold locks (pg_stat_activity)."
            )
        case ssl.SSLError():
            return f"cannot be reached by TLS: {_text(error)}. Check sslmode and sslrootcert in the URL."
        case asyncpg.ClientConfigurationError():
            return f"cannot be used: {_text(error)}. Correct the URL."
        case _ if is_connection_lost(error):
            return f"cannot be reached: {_text(error)}. Check host and port, and that PostgreSQL runs there."
        case _:
            return f"did not do it: {_text(error)}"


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
