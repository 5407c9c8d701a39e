"""The address of a server, and the settings of requests to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

import httpx

from apflow.core.bounds import MAX_CALL_SECONDS, MAX_COUNT
from apflow.core.errors import InvalidInputError
from apflow.core.service.operations import Operation
from apflow.core.settings import read_settings

RPC: Final = "/tasks"
BACKUP: Final = "/backup"


@dataclass(frozen=True)
class Target:
    """A server and the settings of requests to it. `repr` omits headers: they may contain a credential."""

    url: str
    headers: httpx.Headers
    timeout: float  # seconds for each step of a call: to connect, to send, to be answered
    patience: float  # seconds during which a call is repeated
    reconnect_for: float  # seconds during which a lost stream is resumed
    silence: float  # seconds without a heartbeat after which a stream counts as lost
    max_bytes: int  # of an answer, and of an event

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, so that no proxy is used."""
        host = httpx.URL(self.url).host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def rpc_url(self) -> str:
        """The URL for calls."""
        return self.url + RPC

    @property
    def backup_url(self) -> str:
        """The URL of a copy of the database."""
        return self.url + BACKUP

    def events_url(self, task_id: str) -> str:
        """Return the URL of the events of a task's tree."""
        return f"{self.url}/tasks/{quote(task_id, safe='')}/events"

    def logs_url(self, task_id: str, chosen: Mapping[str, str | int | None]) -> str:
        """Return the URL of what a task logs.

        Args:
            chosen: conditions on the lines, by name; None: any.
        """
        conditions = {name: value for name, value in chosen.items() if value is not None}
        query = f"?{httpx.QueryParams(conditions)}" if conditions else ""
        return f"{self.url}/tasks/{quote(task_id, safe='')}/logs{query}"

    def timeout_of(self, operation: Operation) -> httpx.Timeout:
        """Return the timeouts of a call of an operation."""
        return httpx.Timeout(self.timeout, read=self.timeout + operation.extra_seconds)


def check_seconds(name: str, seconds: float) -> float:
    """Validate a number of seconds and return it.

    Raises:
        InvalidInputError: the number is out of range.
    """
    if isinstance(seconds, bool) or not 0 <= seconds <= MAX_CALL_SECONDS:
        raise InvalidInputError(f"{name} must be seconds from 0 to {MAX_CALL_SECONDS:,}.")
    return seconds


def target_of(
    base_url: str | None,
    token: str | None,
    headers: Mapping[str, str] | None,
    *,
    timeout: float,
    patience: float,
    reconnect_for: float,
    silence: float,
    max_bytes: int,
) -> Target:
    """Validate the arguments of a client; the settings give the address if it is omitted.

    Raises:
        InvalidInputError: the address is invalid, a header cannot be sent, or a number is
            out of range.
    """
    seconds = {"timeout": timeout, "patience": patience, "reconnect_for": reconnect_for, "silence": silence}
    for name, value in seconds.items():
        check_seconds(name, value)
    if isinstance(max_bytes, bool) or not 1 <= max_bytes <= MAX_COUNT:
        raise InvalidInputError(f"max_bytes must be an integer from 1 to {MAX_COUNT:,}.")
    settings = read_settings()
    given = base_url or settings.api_url
    if not base_url and token is None:
        token = settings.api_token
    if not given:
        raise InvalidInputError("The address of the server is missing. Give base_url, or set APFLOW_API_URL.")
    return Target(
        read_url(given),
        read_headers(token, headers),
        timeout,
        patience,
        reconnect_for,
        silence,
        max_bytes,
    )


def read_url(given: str) -> str:
    """Return the address of a server without a trailing slash.

    Raises:
        InvalidInputError: the address is invalid.
    """
    advice = "Give it as http://HOST:PORT or https://HOST, with the path of the server, if it has one."
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise InvalidInputError(f"The address of the server is invalid: {error}. {advice}") from error
    if url.userinfo:
        raise InvalidInputError(
            "The address of a server must not contain a user name or a password. Give a token."
        )
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise InvalidInputError(f"{given!r} is not a valid address of a server. {advice}")
    return str(url).rstrip("/")


def read_headers(token: str | None, given: Mapping[str, str] | None) -> httpx.Headers:
    """Return the headers of every request. Errors never contain their values.

    Raises:
        InvalidInputError: a header cannot be sent.
    """
    named = dict(given or {})
    if token:
        named["Authorization"] = f"Bearer {token}"
    for name, value in named.items():
        if not _is_sendable(name, value):
            raise InvalidInputError(
                f"The header {name[:80]!r} cannot be sent: use ASCII characters without line breaks."
            )
    return httpx.Headers({"Accept-Encoding": "identity"} | named)


def _is_sendable(name: str, value: str) -> bool:
    is_name = bool(name) and name.isascii() and all(each.isalnum() or each in "-_" for each in name)
    return is_name and value.isascii() and value.isprintable()
