"""Where a server is, and how it is spoken to. Pure."""

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


@dataclass(frozen=True)
class Target:
    """A server, and what is sent with every request. Headers may hold a credential: they are not shown."""

    url: str
    headers: httpx.Headers
    timeout: float  # seconds for each step of a call: to connect, to send, to be answered
    patience: float  # seconds in which a call is repeated
    reconnect_for: float  # seconds in which a lost stream is taken up again
    silence: float  # seconds without a sign of life after which a stream counts as lost
    max_bytes: int  # of an answer, and of an event

    def __repr__(self) -> str:
        return f"Target({self.url!r})"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, where no proxy leads to."""
        host = httpx.URL(self.url).host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def rpc_url(self) -> str:
        """Where calls are sent."""
        return self.url + RPC

    def events_url(self, task_id: str) -> str:
        """Return where the events of a task's tree are."""
        return f"{self.url}/tasks/{quote(task_id, safe='')}/events"

    def timeout_of(self, operation: Operation) -> httpx.Timeout:
        """Return the timeouts of a call of an operation."""
        return httpx.Timeout(self.timeout, read=self.timeout + operation.extra_seconds)


def check_seconds(name: str, seconds: float) -> float:
    """Return the seconds that a client is given.

    Raises:
        InvalidInputError: they are out of range.
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
    """Return what is meant by what a client is given; without an address, that of the settings.

    Raises:
        InvalidInputError: the address is not that of a server, a header cannot be sent, or a number is
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
        raise InvalidInputError("Which server? Give base_url, or set APFLOW_API_URL.")
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
    """Return the address of a server without a slash at its end.

    Raises:
        InvalidInputError: it is none.
    """
    advice = "Give it as http://HOST:PORT or https://HOST, with the path that it is mounted at, if any."
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise InvalidInputError(f"The address of the server cannot be read: {error}. {advice}") from error
    if url.userinfo:
        raise InvalidInputError("The address of a server holds no user name and no password. Give a token.")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise InvalidInputError(f"{given!r} is no address of a server. {advice}")
    return str(url).rstrip("/")


def read_headers(token: str | None, given: Mapping[str, str] | None) -> httpx.Headers:
    """Return what is sent with every request. Nothing of it is in an error.

    Raises:
        InvalidInputError: a header cannot be sent.
    """
    named = dict(given or {})
    if token:
        named["Authorization"] = f"Bearer {token}"
    for name, value in named.items():
        if not _is_sendable(name, value):
            raise InvalidInputError(
                f"The header {name[:80]!r} cannot be sent: ASCII text without line breaks is what can."
            )
    return httpx.Headers({"Accept-Encoding": "identity"} | named)


def _is_sendable(name: str, value: str) -> bool:
    is_name = bool(name) and name.isascii() and all(each.isalnum() or each in "-_" for each in name)
    return is_name and value.isascii() and value.isprintable()
