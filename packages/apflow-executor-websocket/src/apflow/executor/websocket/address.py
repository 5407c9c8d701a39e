"""Where a WebSocket URL leads, and what of the URL may be shown. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote_plus, urlsplit, urlunsplit

from apflow.core.payload.secrets import STARS, is_secret_key
from apflow.executor.websocket.errors import WebSocketInputError

PORTS = {"ws": 80, "wss": 443}
SHOWN_LENGTH = 200

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_IPV6 = re.compile(r"\[[0-9a-fA-F:.]+\](:\d*)?")  # with a port, in brackets
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_KEPT = "%:/?[]@!$&'()*+,;="  # what a path and a query may hold as it is (RFC 3986, section 3.3)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads. `uri` is the URL in ASCII; `shown` has no query, which may hold a credential."""

    uri: str
    host: str
    port: int
    is_secure: bool
    shown: str


def read_address(url: str, name: str = "url") -> Address:
    """Return where a URL leads.

    Raises:
        WebSocketInputError: it is not a WebSocket URL. The message omits the URL,
            which may contain a password.
    """
    if _UNSAFE.search(url):
        raise WebSocketInputError(name, "holds a space, a backslash or a control character: encode it (%20)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may hold a password
        raise WebSocketInputError(name, "is not a valid URL: its host or port cannot be parsed") from None
    _check(parts, port, name)
    host = _host_of(parts, name)
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    path, query = quote(parts.path or "/", safe=_KEPT), quote(parts.query, safe=_KEPT)
    return Address(
        urlunsplit((parts.scheme, netloc, path, query, "")),
        host,
        port or PORTS[parts.scheme],
        parts.scheme == "wss",
        f"{parts.scheme}://{netloc}{path}"[:SHOWN_LENGTH],
    )


def masked_url(url: str) -> str:
    """Return the URL with `***` for query values under names of secrets."""
    before, mark, query = url.partition("?")
    return before + mark + "&".join(map(_masked_parameter, query.split("&")))


def _masked_parameter(parameter: str) -> str:
    name, sign, value = parameter.partition("=")
    return f"{name}={STARS}" if sign and value and is_secret_key(unquote_plus(name)) else parameter


def _check(parts: SplitResult, port: int | None, name: str) -> None:
    if parts.scheme not in PORTS:
        raise WebSocketInputError(name, "must begin with ws:// or wss://")
    if "@" in parts.netloc:
        raise WebSocketInputError(name, "holds a user name or password: give credentials in `headers`")
    if not parts.hostname:
        raise WebSocketInputError(name, "names no host")
    if port == 0:
        raise WebSocketInputError(name, "names port 0, where nothing can listen")
    if parts.fragment:
        raise WebSocketInputError(name, "holds a fragment (#), which means nothing to a WebSocket")


def _host_of(parts: SplitResult, name: str) -> str:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        is_host = _IPV6.fullmatch(parts.netloc) is not None
    else:
        try:
            host = host.encode("idna").decode("ascii").lower()
        except UnicodeError as error:
            raise WebSocketInputError(name, "names a host that cannot exist") from error
        is_host = _NAME.fullmatch(host) is not None
    if not is_host:
        raise WebSocketInputError(name, "names a host that cannot exist")
    return host
