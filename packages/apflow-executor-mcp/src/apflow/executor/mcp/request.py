"""What a task asks for, checked before anything is started or connected to. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from apflow.core.net.headers import check_headers
from apflow.executor.mcp.errors import McpInputError
from apflow.executor.mcp.schema import DEFAULT_OUTPUT_BYTES, DEFAULT_TIMEOUT

SHOWN_LENGTH = 200

# Of the connection, or of the protocol.
_RESERVED = frozenset({
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "host",
    "last-event-id", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_RESERVED_BEGIN = "mcp-"

# The inputs that an operation needs.
_NEEDED = {
    "call_tool": "tool_name",
    "get_prompt": "prompt_name",
    "read_resource": "resource_uri",
}
_OF_OPERATION = {
    "tool_name": ("call_tool",),
    "prompt_name": ("get_prompt",),
    "resource_uri": ("read_resource",),
    "arguments": ("call_tool", "get_prompt"),
}
_OF_STDIO = ("command", "args", "cwd", "env")
_OF_HTTP = ("url", "headers", "auth", "verify")


@dataclass(frozen=True, slots=True)
class StdioTarget:
    """A server that is a program of this machine. Never shown in full: `env` may hold credentials."""

    command: tuple[str, ...]
    cwd: str | None
    env: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def shown(self) -> str:
        """The name for messages."""
        text = shlex.join(self.command)
        return f"`{text}`" if len(text) <= SHOWN_LENGTH else f"`{text[:SHOWN_LENGTH]}...`"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a token is requested with. Never shown."""

    token_url: str | None  # None: it is discovered
    client_id: str
    client_secret: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    scope: str | None
    issuer: str | None = None  # that a discovered token endpoint must belong to


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A server at an address. Never shown in full: `headers` may hold credentials."""

    url: str
    host: str
    port: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    credentials: Credentials | None
    verify: bool | str
    is_sse: bool  # the older HTTP+SSE, not streamable HTTP

    @property
    def shown(self) -> str:
        """The name for messages, without the query, which may hold a credential."""
        return self.url.partition("?")[0][:SHOWN_LENGTH]


Target = StdioTarget | HttpTarget


@dataclass(frozen=True, slots=True)
class McpRequest:
    """One operation on one server."""

    transport: str
    operation: str
    target: Target
    name: str  # of the tool or the prompt, or the URI of the resource; empty for lists
    arguments: Mapping[str, Any] | None
    timeout: float
    max_output_bytes: int


def read_request(inputs: Mapping[str, Any]) -> McpRequest:
    """Return what the inputs ask for.

    Raises:
        McpInputError: they describe no operation on a server; it names the input.
    """
    given = {name: value for name, value in inputs.items() if value is not None}
    transport, operation = given["transport"], given["operation"]
    _check_names(given, transport, operation)
    target = _read_stdio(given) if transport == "stdio" else _read_http(given, is_sse=transport == "sse")
    arguments = given.get("arguments")
    if operation == "get_prompt":
        _check_strings(arguments or {})
    return McpRequest(
        transport,
        operation,
        target,
        given.get(_NEEDED.get(operation, ""), ""),
        arguments,
        float(given.get("timeout", DEFAULT_TIMEOUT)),
        given.get("max_output_bytes", DEFAULT_OUTPUT_BYTES),
    )


def _check_names(given: Mapping[str, Any], transport: str, operation: str) -> None:
    is_stdio = transport == "stdio"
    required, unused = ("command", _OF_HTTP) if is_stdio else ("url", _OF_STDIO)
    if required not in given:
        raise McpInputError(required, f"is required for the transport {transport}")
    for name in unused:
        if name in given and not (name == "verify" and given[name] is True):  # the default of the schema
            raise McpInputError(name, f"cannot be used with the transport {transport}")
    needed = _NEEDED.get(operation)
    if needed is not None and needed not in given:
        raise McpInputError(needed, f"is required for the operation {operation}")
    for name, operations in _OF_OPERATION.items():
        if name in given and operation not in operations:
            raise McpInputError(name, f"cannot be used with the operation {operation}")


def _check_strings(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise McpInputError(f"arguments.{name}", "must be a string, because arguments of prompts are")


def _read_stdio(given: Mapping[str, Any]) -> StdioTarget:
    command = given["command"]
    try:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise McpInputError("command", f"cannot be split: {error}") from error
    if not argv or not argv[0]:
        raise McpInputError("command", "names no program")
    env: Mapping[str, str] = given.get("env") or {}
    arguments = (*argv, *given.get("args", ()))
    return StdioTarget(arguments, given.get("cwd"), tuple(sorted(env.items())))


def _read_http(given: Mapping[str, Any], *, is_sse: bool) -> HttpTarget:
    url = _read_url(given["url"], "url")
    return HttpTarget(
        str(url),
        url.host,
        url.port or (443 if url.scheme == "https" else 80),
        _read_headers(given.get("headers") or {}),
        _read_auth(given),
        given.get("verify", True),
        is_sse,
    )


def _read_url(text: str, name: str) -> httpx.URL:
    if any(ord(each) < 0x21 or ord(each) == 0x7F for each in text) or "\\" in text:
        raise McpInputError(name, "holds a space, a backslash or a control character: encode it (%20)")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):  # its text may hold a password
        raise McpInputError(name, "is not a valid URL: its host or port cannot be parsed") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise McpInputError(name, "must begin with http:// or https:// and name a host")
    if url.userinfo:
        raise McpInputError(name, "holds a user name or password: give credentials in `headers`")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise McpInputError(name, "names a port outside of 1 to 65535")
    if url.fragment:
        raise McpInputError(name, "holds a fragment (#), which is not sent to a server")
    return url


def _read_auth(given: Mapping[str, Any]) -> Credentials | None:
    auth = given.get("auth")
    if auth is None:
        return None
    headers: Mapping[str, str] = given.get("headers") or {}
    if any(name.lower() == "authorization" for name in headers):
        raise McpInputError("headers.Authorization", "cannot be given beside `auth`")
    if "client_secret" not in auth and "refresh_token" not in auth:
        raise McpInputError("auth", "needs a `client_secret` or a `refresh_token`")
    if "token_url" in auth and "issuer" in auth:
        raise McpInputError("auth.issuer", "is for discovery, and cannot be given beside `auth.token_url`")
    urls = {
        name: str(_read_url(auth[name], f"auth.{name}")) for name in ("token_url", "issuer") if name in auth
    }
    return Credentials(
        urls.get("token_url"),
        auth["client_id"],
        auth.get("client_secret"),
        auth.get("refresh_token"),
        auth.get("scope"),
        urls.get("issuer"),
    )


def _read_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    check_headers(headers, McpInputError, _fault_of_name)
    return tuple(sorted(headers.items()))


def _fault_of_name(name: str) -> str | None:
    is_reserved = name in _RESERVED or name.startswith(_RESERVED_BEGIN)
    return "is set by the protocol itself" if is_reserved else None
