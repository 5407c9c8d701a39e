"""Sessions of browsers: a bearer token in a cookie that scripts cannot read.

There is no state on the server: the cookie is the token, and the session is valid as long as the token is.
A cookie is sent also with requests that another page causes, so a request that changes something must carry
a value in a header that only the page can know (`X-CSRF-Token`). That value is derived from the token, so
each replica of a server accepts it, and it does not reveal the token.
"""

from __future__ import annotations

import hmac
import math
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from apflow.core.settings import Settings
from apflow.server.http.api_error import RefusedError

CSRF_HEADER: Final = "X-CSRF-Token"
NAME: Final = "apflow-session"
MAX_TOKEN_BYTES: Final = (
    3800  # browsers keep at most 4096 bytes of a cookie, its name and attributes included
)
SAFE_METHODS: Final = ("GET", "HEAD")
OWN_PAGES: Final = ("same-origin", "none")  # "none": the reader typed the address
_PURPOSE: Final = b"apflow csrf of a session"


@dataclass(frozen=True, slots=True)
class CookiePlace:
    """Name and scope of the session cookie of one server, as a browser sees it.

    A browser sends the cookies of a host to all of its ports, so the name contains the port. The prefixes
    `__Host-` and `__Secure-` keep other hosts of the domain from setting the cookie.
    """

    name: str
    path: str
    is_secure: bool


def cookie_place(connection: HTTPConnection, settings: Settings) -> CookiePlace:
    """Return the name and the scope of the session cookie for the address that a request was sent to."""
    host = connection.headers.get("host", "").lower()
    public = urlsplit(settings.public_url)
    is_public = host != "" and host == public.netloc.lower()
    is_secure = connection.scope.get("scheme") == "https" or (is_public and public.scheme == "https")
    path: str = (public.path if is_public else connection.scope.get("root_path", "")).rstrip("/") or "/"
    prefix = ("__Host-" if path == "/" else "__Secure-") if is_secure else ""
    port = host.rpartition("]")[2].partition(":")[2]
    return CookiePlace(f"{prefix}{NAME}{f'-{port}' if port.isdecimal() else ''}", path, is_secure)


def csrf_of(token: str) -> str:
    """Return the value of `X-CSRF-Token` for the session of a token."""
    return hmac.new(token.encode(), _PURPOSE, sha256).hexdigest()


def session_token(connection: HTTPConnection, settings: Settings) -> str | None:
    """Return the token in the session cookie of a request; None if there is no cookie.

    A WebSocket has no session: browsers open one for a page of any site.

    Raises:
        RefusedError: another page causes the request, or it would change something without the header.
    """
    if connection.scope["type"] != "http":
        return None
    token = _first_cookie(connection, cookie_place(connection, settings).name)
    if not token:
        return None
    if connection.headers.get("sec-fetch-site", "none") not in OWN_PAGES:
        raise RefusedError("Only the page of this server may use its session. Send a bearer token instead.")
    is_safe = connection.scope["method"] in SAFE_METHODS
    if not is_safe and not hmac.compare_digest(_header(connection), csrf_of(token).encode()):
        raise RefusedError(
            f"A request with a session cookie needs the header {CSRF_HEADER}, with `csrf` of GET /ui/session."
        )
    return token


def set_session(response: Response, place: CookiePlace, token: str, until: float | None) -> None:
    """Set the session cookie.

    Args:
        until: when the token expires, in seconds since 1970; None: the session ends with the browser.

    Raises:
        RefusedError: browsers do not keep a cookie of this size.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise RefusedError(
            f"The token has {len(token)} bytes, and a cookie holds at most {MAX_TOKEN_BYTES}: keep it in "
            "memory."
        )
    response.set_cookie(
        place.name,
        token,
        max_age=None if until is None else max(0, math.floor(until - time.time())),
        path=place.path,
        secure=place.is_secure,
        httponly=True,
        samesite="strict",
    )


def end_session(response: Response, place: CookiePlace) -> None:
    """Remove the session cookie."""
    response.delete_cookie(
        place.name, path=place.path, secure=place.is_secure, httponly=True, samesite="strict"
    )


def _header(connection: HTTPConnection) -> bytes:
    return connection.headers.get(CSRF_HEADER, "").encode()


def _first_cookie(connection: HTTPConnection, name: str) -> str:
    """Return the first cookie of a name: that of the longest path comes first (RFC 6265, section 5.4)."""
    for header in connection.headers.getlist("cookie"):
        for pair in header.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
    return ""
