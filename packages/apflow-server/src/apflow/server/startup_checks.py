"""Checks of the settings of a server before it starts. Pure.

They find mistakes that would show only later: keys that are never found, origins that never match, a policy
that fails each connection, tokens that are never checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from urllib.parse import SplitResult, urlsplit

from apflow.core.errors import SettingsError
from apflow.core.net.policy import read_policy
from apflow.core.permissions.capability_policy import capability_policy
from apflow.core.permissions.secret_policy import secret_policy
from apflow.core.settings import Settings
from apflow.core.webhooks.defaults import check_defaults
from apflow.server.http.listening import check_place, proxies_of, read_place
from apflow.server.http.protection import has_auth
from apflow.server.mcp.handlers import selection_of

URLS = ("jwks_url", "public_url", "otlp_endpoint")
OF_TOKENS = ("jwt_algorithms", "jwt_audience", "jwt_issuer")


def check_settings(settings: Settings) -> None:
    """Check what a server can know of its settings before it uses them.

    Raises:
        SettingsError: one of them cannot be meant.
    """
    for name in URLS:
        _check_url(name, getattr(settings, name))
    for origin in settings.cors_origins:
        _check_origin(origin)
    proxies_of(settings)
    _check_a2a(settings)
    read_policy(settings.net_policy, settings.net_allow)
    secret_policy(settings)
    capability_policy(settings)
    check_defaults(settings)
    _check_tools(settings.mcp_tools)
    given = [f"APFLOW_{name.upper()}" for name in OF_TOKENS if getattr(settings, name)]
    if given and not has_auth(settings):
        raise SettingsError(
            f"{' and '.join(given)} restrict tokens, but nothing could check a token, so the server "
            "would ask for none. Set APFLOW_JWT_SECRET or APFLOW_JWKS_URL too, or leave these out."
        )


def _check_a2a(settings: Settings) -> None:
    if settings.a2a_grpc_bind:
        check_place(read_place(settings.a2a_grpc_bind, "APFLOW_A2A_GRPC_BIND"), settings)
        if find_spec("a2a") is None or find_spec("grpc") is None:
            raise SettingsError(
                "APFLOW_A2A_GRPC_BIND is set, but A2A over gRPC is not installed. Install "
                "apflow-server[a2a-grpc], or leave the setting out."
            )
    if settings.a2a_card_key and find_spec("a2a") is not None:
        from apflow.server.a2a.signing import check_key  # here: few servers sign cards

        check_key(settings.a2a_card_key)


def _check_tools(tools: Sequence[str]) -> None:
    try:
        selection_of(tools)
    except SettingsError as error:
        raise SettingsError(f"APFLOW_MCP_TOOLS: {error}") from error


def _check_url(name: str, url: str) -> None:
    if url and not _is_of_http(_split(url)):
        raise SettingsError(
            f"APFLOW_{name.upper()} is {url!r}, which is not a valid URL. It must begin with http:// or "
            "https:// and name a host."
        )


def _check_origin(origin: str) -> None:
    parts = _split(origin)
    is_bare = parts is not None and f"{parts.scheme}://{parts.netloc}" == origin
    if origin != "*" and not (_is_of_http(parts) and is_bare):
        raise SettingsError(
            f"APFLOW_CORS_ORIGINS names {origin!r}, which is not an origin. Expected lower case and no path, "
            "such as https://page.example or http://localhost:3000, or * for all."
        )


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        return None
    return parts


def _is_of_http(parts: SplitResult | None) -> bool:
    return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
