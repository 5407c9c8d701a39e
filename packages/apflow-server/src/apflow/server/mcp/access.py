"""Which requests reach the MCP endpoint: by the names that they use, and from which pages they come.

A page in a browser may point its own name at this server (DNS rebinding), or send requests to it from another
origin. Without authentication, `http.protection` checks both for every path. The protocol requires the checks
with authentication, too.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from apflow.core.settings import Settings
from apflow.server.http.api_error import RefusedError, UnauthorizedError
from apflow.server.http.protection import check_origin, has_auth, is_own_name

PATH: Final = "/mcp"
METADATA: Final = "/.well-known/oauth-protected-resource"


def check_names(headers: Headers, settings: Settings) -> None:
    """Check the Host and the Origin of a request.

    With authentication, the host must be the one of APFLOW_PUBLIC_URL, if that is set, or a name of this
    machine. Without, `http.protection` has checked it.

    Raises:
        RefusedError: the host is another one, or a page of a foreign origin sends the request.
    """
    hosts = headers.getlist("host")
    is_own = len(hosts) == 1 and is_own_name(hosts[0], settings)
    if has_auth(settings) and settings.public_url and not is_own:
        raise RefusedError(
            "MCP clients reach this server by localhost and the name in APFLOW_PUBLIC_URL only."
        )
    check_origin(headers, settings)


def resource_url(request: Request, settings: Settings) -> str:
    """Return the URL of the endpoint, as its clients see it."""
    public = settings.public_url.rstrip("/")
    root: str = request.scope.get("root_path", "")
    return f"{public or f'{request.url.scheme}://{request.url.netloc}{root}'}{PATH}"


def metadata_url(request: Request, settings: Settings) -> str:
    """Return where the metadata of the endpoint is, as RFC 9728 places it."""
    resource = resource_url(request, settings)
    return f"{resource.removesuffix(PATH)}{METADATA}{PATH}"


def metadata(request: Request, settings: Settings) -> dict[str, object]:
    """Return the metadata of the endpoint, by which clients find the issuer of tokens (RFC 9728)."""
    found: dict[str, object] = {
        "resource": resource_url(request, settings),
        "bearer_methods_supported": ["header"],
        "resource_name": "apflow",
    }
    if urlsplit(settings.jwt_issuer).scheme in ("http", "https"):
        found["authorization_servers"] = [settings.jwt_issuer]
    return found


def challenged(error: UnauthorizedError, request: Request, settings: Settings) -> UnauthorizedError:
    """Return an error with a challenge that names the metadata."""
    url = metadata_url(request, settings)
    error.headers["WWW-Authenticate"] += f', resource_metadata="{url}"'
    return error
