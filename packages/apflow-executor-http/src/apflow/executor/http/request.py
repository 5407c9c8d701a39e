"""Inputs turned into a request: everything is checked before anything is sent. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httpx

from apflow.core.net.headers import is_token
from apflow.core.payload.json_value import dumps
from apflow.core.payload.secrets import is_secret_key, redact
from apflow.executor.http.errors import RestInputError
from apflow.http import IDEMPOTENT, SENDING, Sending

ENCODINGS = "gzip, deflate"  # what can be unpacked in bounds
BODIES = ("json", "data", "form", "files")
# What the connection itself is made of; and Host, by which another site behind the address would be reached.
REFUSED = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te",
                     "host", "expect", "trailer", "proxy-connection", "proxy-authorization"})  # fmt: skip

Json = Any


@dataclass(frozen=True)
class RestRequest:
    """A validated request, and how to report it."""

    http: httpx.Request
    shown_url: str  # without the credential that is in its query
    credentials: frozenset[str]  # names of headers, in lower case, that do not leave the origin
    is_repeatable: bool  # it may be sent again, though the outcome of the first time is unknown
    sending: Sending  # of all requests that it leads to, redirects included
    secrets: tuple[str, ...]  # removed from everything reported, as a server may repeat them

    @property
    def is_outcome_unknown(self) -> bool:
        """Return whether the server may have acted in a way that must not happen twice."""
        is_safe = self.http.method in IDEMPOTENT and not self.sending.is_once
        return self.sending.bytes_written > 0 and not is_safe

    def redacted(self, text: str) -> str:
        """Return a string without the secrets."""
        return str(redact(text, self.secrets))


def read_request(
    inputs: Mapping[str, Json], idempotency_key: str | None, effect: str | None = None
) -> RestRequest:
    """Return the request that inputs describe.

    Args:
        idempotency_key: sent with POST and PATCH, unless the inputs name one.
        effect: what the author of the task says that a second request would do; None: nothing.

    Raises:
        RestInputError: they describe none that may be sent; it names the input.
    """
    method = str(inputs.get("method", "GET")).upper()
    headers = _headers(inputs.get("headers") or {})
    params: list[tuple[str, str]] = list(_pairs(inputs.get("params") or {}))
    shown = url = _url(str(inputs["url"]))
    if params:
        shown = url = url.copy_merge_params(_merged(url, params))
    auth = _present(inputs.get("auth"))
    name, value, place = _credential(auth)
    if place == "header":
        headers[name] = value
    elif place == "query":
        url = url.copy_merge_params(_merged(url, [(name, value)]))
    has_key = "Idempotency-Key" in headers
    if method not in IDEMPOTENT and idempotency_key is not None:
        headers.setdefault("Idempotency-Key", idempotency_key)
    headers.setdefault("Accept", "*/*")
    headers.setdefault("Accept-Encoding", ENCODINGS)
    headers.setdefault("User-Agent", "apflow")
    if "json" in inputs:
        headers.setdefault("Content-Type", "application/json")
    own = {name.lower()} if place == "header" else set[str]()
    secret = {each.lower() for each in headers if is_secret_key(each)} | {"cookie", "authorization"} | own
    never_shown = [headers[each] for each in secret if each in headers]
    never_shown += _secret_values(auth or {}, url.params.multi_items())
    try:
        extensions = {SENDING: (sending := Sending(is_once=effect == "once"))}
        request = httpx.Request(method, url, headers=headers, extensions=extensions, **_body(inputs))
    except (ValueError, TypeError, httpx.InvalidURL, UnicodeError) as error:
        raise RestInputError(f"The request cannot be written: {error}.") from error
    # The key that is sent by default does not count: the service may not know the header.
    is_repeatable = not sending.is_once and (method in IDEMPOTENT or has_key or effect is not None)
    return RestRequest(
        request, without_secrets(shown), frozenset(secret), is_repeatable, sending, tuple(never_shown)
    )


def _secret_values(auth: Mapping[str, str], params: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from (auth[name] for name in ("token", "password", "api_key") if name in auth)
    yield from (value for name, value in params if is_secret_key(name))


def without_secrets(url: httpx.URL) -> str:
    """Return a URL for logs and errors: query values under names of secrets become `***`."""
    pairs = url.params.multi_items()
    if not any(is_secret_key(name) for name, _ in pairs):
        return str(url)
    return str(url.copy_with(params=[(name, "***" if is_secret_key(name) else each) for name, each in pairs]))


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        # What is wrong with it is not repeated: it may be a part of a password.
        raise RestInputError(
            "url is not a valid URL: the host, the port or a character is invalid."
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise RestInputError("url begins with http:// or https:// and names a host.")
    if url.port is not None and not 0 < url.port < 1 << 16:
        raise RestInputError(f"url names the port {url.port}; there are those from 1 to 65535.")
    if url.userinfo:
        raise RestInputError("url holds a user name or a password. Give them as auth: {type: basic, ...}.")
    if any(ord(character) < 0x21 or ord(character) == 0x7F for character in text.strip()) or "\\" in text:
        raise RestInputError("url holds characters that no URL has: blanks, control characters, backslashes.")
    return url.copy_with(fragment=None) if url.fragment else url


def _merged(url: httpx.URL, more: list[tuple[str, str]]) -> httpx.QueryParams:
    return httpx.QueryParams([*url.params.multi_items(), *more])


def _headers(given: Mapping[str, str]) -> httpx.Headers:
    for name, value in given.items():
        if not is_token(name):
            raise RestInputError(f"headers: {name!r} is not a valid header name (RFC 9110, section 5.1).")
        _check_value(f"headers.{name}", value)
        if name.lower() in REFUSED:
            raise RestInputError(f"headers.{name} belongs to the connection and cannot be given.")
    try:
        return httpx.Headers(given)
    except UnicodeError as error:
        raise RestInputError("headers hold characters beyond ASCII, which cannot be sent.") from error


def _check_value(where: str, value: str) -> None:
    """Refuse what h11 would refuse: its error repeats the value, which may be a credential."""
    if any((ord(character) < 0x20 and character != "\t") or ord(character) == 0x7F for character in value):
        raise RestInputError(f"{where} holds a line break or another control character.")
    if value != value.strip(" \t"):
        raise RestInputError(f"{where} begins or ends with a blank, which no header can.")


# Former names of the members of an API key, with the present ones.
_FORMER = {"key": "name", "value": "api_key", "location": "in"}


def _present(auth: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Return a credential with the present names of its members."""
    if auth is None or auth["type"] != "apikey":
        return auth
    twice = [f"{old} and {new}" for old, new in _FORMER.items() if old in auth and new in auth]
    if twice:
        raise RestInputError(f"auth of type apikey says the same twice: {', '.join(twice)}. Leave one out.")
    return {_FORMER.get(name, name): value for name, value in auth.items()}


def _credential(auth: Mapping[str, str] | None) -> tuple[str, str, str]:
    """Return the name of what carries the credential, its value, and where it stands; "" for nowhere."""
    if auth is None:
        return "", "", ""
    kind = auth["type"]
    wanted = {"bearer": ("token",), "basic": ("username", "password"), "apikey": ("api_key",)}[kind]
    allowed = {"type", *wanted, *(("name", "in") if kind == "apikey" else ())}
    missing = [name for name in wanted if name not in auth]
    strange = sorted(set(auth) - allowed)
    if missing or strange:
        said = f"misses {', '.join(missing)}" if missing else f"does not take {', '.join(strange)}"
        raise RestInputError(f"auth of type {kind} {said}.")
    if ":" in auth.get("username", ""):
        raise RestInputError("auth.username holds a colon, which ends it (RFC 7617, section 2).")
    if kind == "basic":
        pair = f"{auth['username']}:{auth['password']}".encode()
        return "Authorization", f"Basic {base64.b64encode(pair).decode()}", "header"
    if kind == "bearer":
        return _checked("Authorization", f"Bearer {auth['token']}", "header")
    return _checked(auth.get("name", "X-API-Key"), auth["api_key"], auth.get("in", "header"))


def _checked(name: str, value: str, place: str) -> tuple[str, str, str]:
    if place == "header":
        if not value.isascii():
            raise RestInputError("auth holds characters beyond ASCII, which no header can carry.")
        _check_value("auth", value)
        _headers({name: ""})
    return name, value, place


def _body(inputs: Mapping[str, Json]) -> dict[str, Any]:
    """Return the body as `httpx.Request` takes it."""
    given = [name for name in BODIES if inputs.get(name) is not None or (name == "json" and name in inputs)]
    if len(given) > 1 and given != ["form", "files"]:
        raise RestInputError(
            f"A request has one body: give one of {', '.join(given)} (form goes with files)."
        )
    if "files" in given:
        return {"files": _files(inputs["files"]), "data": dict(_fields(inputs.get("form") or {}))}
    if not given:
        return {}
    value = inputs[given[0]]
    match given[0]:
        case "json":
            return {"content": dumps(value)}
        case "form":
            return {"data": dict(_fields(value))}
        case _:
            return {"content": value.encode() if isinstance(value, str) else _bytes(value["base64"], "data")}


def _files(files: Mapping[str, Mapping[str, str]]) -> list[tuple[str, tuple[str, bytes, str]]]:
    found: list[tuple[str, tuple[str, bytes, str]]] = []
    for name, each in files.items():
        if ("content" in each) == ("content_base64" in each):
            raise RestInputError(f"files.{name} has either content or content_base64.")
        _check_value(f"files.{name}.content_type", each.get("content_type", ""))
        content = (
            each["content"].encode() if "content" in each else _bytes(each["content_base64"], f"files.{name}")
        )
        found.append(
            (name, (each["filename"], content, each.get("content_type", "application/octet-stream")))
        )
    return found


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RestInputError(f"{where} is not valid base64: {error}.") from error


def _fields(given: Mapping[str, Json]) -> Iterator[tuple[str, str | list[str]]]:
    for name, value in given.items():
        if isinstance(value, list):
            yield name, [_text(each) for each in cast("list[Json]", value)]
        else:
            yield name, _text(value)


def _pairs(given: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for name, value in _fields(given):
        for each in value if isinstance(value, list) else [value]:
            yield name, each


def _text(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
