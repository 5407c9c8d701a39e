"""Parses the URL of a PostgreSQL server, in any usual form, into the driver's arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from apflow.core.bounds import MAX_COUNT, MAX_SECONDS
from apflow.core.errors import InvalidInputError

_FORM = "postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require"
DEFAULT_PORT = 5432
CONNECT_TIMEOUT = 10.0  # seconds
STATEMENTS = 200  # that a connection keeps prepared
SECRET = frozenset({"password", "sslpassword"})
# What other drivers read from a URL, and this one would hand to the server, which refuses it.
_IGNORED = frozenset({
    "channel_binding", "gssencmode", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "pgbouncer", "prepared_statement_cache_size", "tcp_user_timeout",
    "connect_timeout", "statement_cache_size", "fallback_application_name", "client_encoding",
})  # fmt: skip
# Settings of a session, unless the URL says otherwise; milliseconds.
_SESSION = {
    "application_name": "apflow",
    "statement_timeout": "60000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "5000",
    "jit": "off",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is, and how to connect."""

    url: str  # in the one form that all ways of writing it share; without a password
    dsn: str  # for the driver
    session: Mapping[str, str]  # settings of each session
    connect_timeout: float  # seconds
    statement_cache_size: int  # 0 behind a pooler that knows no prepared statements


def read_address(url: str) -> Address:
    """Read a URL: `postgresql://`, `postgres://` or `postgresql+DRIVER://`, with libpq's parameters.

    Raises:
        InvalidInputError: it cannot be read. The password is not shown.
    """
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.partition("+")[0].lower() not in ("postgresql", "postgres"):
        raise InvalidInputError(f"This is not a valid PostgreSQL URL. Expected something like {_FORM}.")
    try:
        parts = urlsplit(f"postgresql://{rest}")
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        _check(parts)
        timeout = _timeout(parameters)
        cache = _cache_size(parameters)
    except InvalidInputError:
        raise
    except ValueError:  # its text may hold a part of the password
        raise InvalidInputError(
            f"This PostgreSQL URL cannot be parsed. Expected something like {_FORM}, "
            f"with @ : / ? # % in a name or password written as %40 %3A %2F %3F %23 %25."
        ) from None
    if "ssl" in parameters:  # as other drivers call it
        parameters.setdefault("sslmode", _ssl_mode(parameters.pop("ssl")))
    shown = {name: value for name, value in parameters.items() if name not in SECRET}
    given = {name: value for name, value in parameters.items() if name not in _IGNORED}
    return Address(
        url=_join(_place(parts), parts.path, dict(sorted(shown.items()))),
        dsn=_join(parts.netloc, parts.path, given),
        session={name: value for name, value in _SESSION.items() if name not in given},
        connect_timeout=timeout,
        statement_cache_size=cache,
    )


def _check(parts: SplitResult) -> None:
    if parts.fragment:
        raise ValueError("what follows # is not part of it")
    if parts.netloc.count("@") > 1:
        raise ValueError("there is more than one @")
    if "," not in parts.netloc:
        _ = parts.port  # raises if it is not a number


def _cache_size(parameters: Mapping[str, str]) -> int:
    if parameters.get("pgbouncer") == "true":
        return 0
    named = parameters.get("statement_cache_size", parameters.get("prepared_statement_cache_size"))
    size = STATEMENTS if named is None else int(named)
    if not 0 <= size <= MAX_COUNT:
        raise InvalidInputError(f"statement_cache_size in a PostgreSQL URL must be from 0 to {MAX_COUNT:,}.")
    return size


def _timeout(parameters: Mapping[str, str]) -> float:
    seconds = float(parameters.get("connect_timeout") or CONNECT_TIMEOUT)
    if not 0 <= seconds <= MAX_SECONDS:
        raise InvalidInputError(
            f"connect_timeout in a PostgreSQL URL must be seconds from 0 to {MAX_SECONDS:,}."
        )
    return seconds


def _ssl_mode(value: str) -> str:
    return {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(value.lower(), value)


def _place(parts: SplitResult) -> str:
    """Return user and host without the password."""
    login, at, host = parts.netloc.rpartition("@")
    user = quote(unquote(login.partition(":")[0]), safe="")
    return f"{user}{at}{host.lower().removesuffix(f':{DEFAULT_PORT}')}"


def _join(place: str, path: str, parameters: Mapping[str, str]) -> str:
    query = urlencode(parameters, quote_via=quote)
    return f"postgresql://{place}{path}{'?' if query else ''}{query}"
