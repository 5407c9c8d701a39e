"""Where a server's access tokens are issued: asked of the server, then of its authorization server.

The server names its authorization servers in its metadata (RFC 9728), and those their token endpoints in
theirs (RFC 8414, or OpenID Connect Discovery). A document that speaks for something else than it was asked
for is refused: it might send the credentials elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx

from apflow.executor.mcp.errors import McpDiscoveryError

MAX_BYTES: Final = 1 << 20  # of a document
MAX_SERVERS: Final = 5  # authorization servers of one server that are asked
RESOURCE: Final = "/.well-known/oauth-protected-resource"
AUTHORIZATION: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"

Json = Any
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Endpoint:
    """Where and how tokens are requested."""

    token_url: str
    resource: str  # that the tokens are for
    scope: str | None  # that the server asks for
    is_secret_in_body: bool  # of the request, not in its Authorization header


async def discover(server_url: str, challenge: str, issuer: str | None, send: Send) -> Endpoint:
    """Return the token endpoint of a server.

    Args:
        challenge: the header `WWW-Authenticate` of the response that asked for a token.
        issuer: the authorization server that the credentials belong to; None: the first that works.
        send: sends a request, under the network policy.

    Raises:
        McpDiscoveryError: nothing trustworthy names the token endpoint.
        AddressRefusedError, HostNotFoundError: see `apflow.core.net.connect`.
    """
    found = await _resource_metadata(server_url, challenge, send)
    issuers = _strings(found.get("authorization_servers")) or [_origin(server_url)]
    if issuer is not None:
        if not any(_is_same(each, issuer) for each in issuers):
            raise McpDiscoveryError(server_url, f"it does not name the issuer {issuer} in its metadata")
        issuers = [issuer]
    for each in issuers[:MAX_SERVERS]:
        metadata = await _issuer_metadata(each, send)
        if metadata is None:
            continue
        token_url = _checked_url(server_url, metadata.get("token_endpoint"))
        methods = _strings(metadata.get("token_endpoint_auth_methods_supported"))
        scope = _parameter(challenge, "scope") or " ".join(_strings(found.get("scopes_supported")))
        return Endpoint(
            token_url,
            str(found.get("resource") or server_url),
            scope or None,
            "client_secret_post" in methods and "client_secret_basic" not in methods,
        )
    raise McpDiscoveryError(server_url, f"no metadata of its authorization server {issuers[0]} was found")


async def _resource_metadata(server_url: str, challenge: str, send: Send) -> dict[str, Json]:
    """Return the metadata of a server; an empty one where there is no such document."""
    origin, path = _origin(server_url), urlsplit(server_url).path.rstrip("/")
    named = _parameter(challenge, "resource_metadata")
    urls = [named, f"{origin}{RESOURCE}{path}", f"{origin}{RESOURCE}"]
    for url in dict.fromkeys(each for each in urls if each):
        found = await _document(_checked_url(server_url, url), send)
        if found is None:
            continue
        resource = found.get("resource")
        if not isinstance(resource, str) or not _contains(resource, server_url):
            raise McpDiscoveryError(server_url, f"its metadata at {url} is of the resource {resource!r}")
        return found
    return {}


async def _issuer_metadata(issuer: str, send: Send) -> dict[str, Json] | None:
    """Return the metadata of an authorization server; None where there is no such document."""
    parts = urlsplit(issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    urls = [f"{origin}{AUTHORIZATION}{path}", f"{origin}{OPENID}{path}", f"{origin}{path}{OPENID}"]
    for url in dict.fromkeys(urls):
        found = await _document(_checked_url(issuer, url), send)
        if found is None:
            continue
        if not _is_same(str(found.get("issuer")), issuer):
            raise McpDiscoveryError(issuer, f"its metadata at {url} is of {found.get('issuer')!r}")
        return found
    return None


async def _document(url: str, send: Send) -> dict[str, Json] | None:
    """Return a document; None if there is none. Redirects are not followed."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    response = await send(httpx.Request("GET", url, headers=headers))
    body = b""
    try:
        if response.status_code != 200:
            return None
        async for chunk in cast("httpx.AsyncByteStream", response.stream):
            body += chunk
            if len(body) > MAX_BYTES:
                raise McpDiscoveryError(url, f"it is longer than {MAX_BYTES} bytes")
    finally:
        await response.aclose()
    try:
        found: Json = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Json]", found) if isinstance(found, dict) else None


def _checked_url(asked: str, url: Json) -> str:
    """Return a URL that was named; raise an error unless it is as safe as where it was named."""
    text = url if isinstance(url, str) else ""
    parts = urlsplit(text)
    allowed = ("https", "http") if urlsplit(asked).scheme == "http" else ("https",)
    if parts.scheme not in allowed or not parts.hostname or parts.username is not None:
        raise McpDiscoveryError(asked, f"the address {text[:200]!r} is not an https:// URL")
    return text


def _contains(resource: str, url: str) -> bool:
    """Return whether a URL is of a resource: of the same origin, and below its path."""
    if _origin(resource) != _origin(url):
        return False
    path, below = (urlsplit(each).path.rstrip("/") + "/" for each in (resource, url))
    return below.startswith(path)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_same(one: str, other: str) -> bool:
    return one.rstrip("/") == other.rstrip("/")


def _strings(value: Json) -> Sequence[str]:
    items = cast("list[Json]", value) if isinstance(value, list) else []
    return [each for each in items if isinstance(each, str)]


def _parameter(challenge: str, name: str) -> str | None:
    """Return a parameter of a challenge (RFC 9110, section 11.2)."""
    found = re.search(rf'(?:^|[\s,]){name}=(?:"([^"]*)"|([^\s,"]+))', challenge)
    return None if found is None else found[1] if found[1] is not None else found[2]
