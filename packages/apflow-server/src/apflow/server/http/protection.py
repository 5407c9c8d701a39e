"""What every answer carries, and whom the server talks to at all.

Without authentication it serves this machine only, by its own names: a page in a browser that lets its name
lead here (DNS rebinding) is refused as a caller from outside is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apflow.core.settings import Settings
from apflow.server.http.api_error import ApiError, NotStartedError, RefusedError, api_error_of
from apflow.server.http.limits import Rate
from apflow.server.http.request_log import HEADER
from apflow.server.http.response import error_response

SECURITY: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
PROBES: Final = ("/health", "/ready")  # balancers ask them often, and by any name
DESCRIPTIONS: Final = ("/docs", "/openapi.json")
MCP_HEADERS: Final = ("Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name")
FOREIGN: Final = "Pages of this origin may not call the server: APFLOW_CORS_ORIGINS names those."
# What a Host header may say: a name or an address, and a port (RFC 9110, section 7.2).
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{0,5})?")


def has_auth(settings: Settings) -> bool:
    """Return whether callers must present tokens."""
    return bool(settings.jwt_secret or settings.jwks_url)


class Protection:
    """Refuses who is not served, and those who ask too often; adds headers of security to every answer."""

    def __init__(self, app: ASGIApp, settings: Settings, rate: Rate) -> None:
        self.app = app
        self._settings, self._rate = settings, rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        has_begun = False

        async def send_protected(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, send_protected)
        except Exception as error:  # the border: every error is reported in one form, and logged
            if has_begun:
                raise
            await refuse(api_error_of(error), scope, receive, send_protected)

    def _check(self, scope: Scope) -> None:
        path = path_in_app(scope)
        address = read_address((scope.get("client") or ("",))[0])
        if not has_auth(self._settings):
            headers = Headers(scope=scope)
            if not self._settings.insecure:
                check_local(address, headers.getlist("host"), self._settings)
            check_origin(headers, self._settings)
        if path not in PROBES:
            self._rate.check_address(rate_key(address))
        if path not in (*PROBES, *DESCRIPTIONS) and scope["app"].state.duties is None:
            raise NotStartedError


def path_in_app(scope: Scope) -> str:
    """Return the path of a request within the application, without the prefix that it is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket that has not begun, with an error."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
    else:
        await error_response(HTTPConnection(scope), error)(scope, receive, send)


def check_local(address: IPv4Address | IPv6Address | None, hosts: list[str], settings: Settings) -> None:
    """Check that a caller is on this machine, and uses one of the machine's names.

    Raises:
        RefusedError: it does not.
    """
    if address is None or not address.is_loopback:
        raise RefusedError(
            "Without authentication this server answers its own machine only. Set APFLOW_JWT_SECRET or "
            "APFLOW_JWKS_URL; or --insecure (APFLOW_INSECURE), where everybody may do everything."
        )
    if len(hosts) > 1 or any(not is_own_name(each, settings) for each in hosts):
        raise RefusedError(
            "Without authentication this server answers to localhost and the name in APFLOW_PUBLIC_URL only."
        )


def is_own_name(host: str, settings: Settings) -> bool:
    """Return whether a Host header names this machine, or is the public name of the server."""
    if not _HOST.fullmatch(host):
        return False
    name = host_of(host)
    address = read_address(name)
    if address is not None:
        return address.is_loopback
    public_name = host_of(settings.public_url)
    return name == "localhost" or name.endswith(".localhost") or name == public_name != ""


def host_of(text: str) -> str:
    """Return the host of a URL or of a Host header, in lower case."""
    try:
        return (urlsplit(text if "//" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address; an IPv4 address in the clothes of IPv6 as what it is."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def rate_key(address: IPv4Address | IPv6Address | None) -> str:
    """Return what stands for the owner of an address: of IPv6 its network, where one owner has all."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


def with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Allow only pages of the origins in the settings to call the server."""
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Last-Event-ID", HEADER, *MCP_HEADERS),
        expose_headers=(HEADER, "Retry-After", "WWW-Authenticate", MCP_HEADERS[0]),
    )


def check_origin(headers: Headers, settings: Settings) -> None:
    """Check that no page of another origin calls, as far as browsers say so.

    Browsers send some requests without a preflight (a WebSocket, a simple POST). A client without an Origin
    header is not a browser.

    Raises:
        RefusedError: one does.
    """
    own = {headers.get("host", "").lower(), urlsplit(settings.public_url).netloc}
    for origin in headers.getlist("origin"):
        is_named = "*" in settings.cors_origins or origin in settings.cors_origins
        place = origin.partition("://")[2]
        if not is_named and (place == "" or place not in own):
            raise RefusedError(FOREIGN)
