"""One request and its answer, redirects included."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import httpcore
import httpx

from apflow.executor.http.body import Body, EncodingError
from apflow.executor.http.errors import (
    RestConnectionError,
    RestError,
    RestOutcomeUnknownError,
    RestRedirectError,
    RestResponseError,
    RestTlsError,
)
from apflow.executor.http.request import RestRequest, without_secrets
from apflow.http import GuardedTransport

MAX_REDIRECTS = 20
# What speaks of the body: it goes where a redirect makes another method of the request.
_OF_BODY = ("Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Idempotency-Key")


@dataclass(frozen=True)
class Answer:
    """What a server answered in the end."""

    url: str  # without secrets
    method: str
    response: httpx.Response
    body: Body


async def exchange(
    transport: GuardedTransport, rest: RestRequest, *, follows: bool, max_bytes: int
) -> Answer:
    """Send a request and read the answer, where it points to if `follows`.

    Raises:
        RestError: no answer came, or none that can be read.
        AddressRefusedError: the network policy forbids where it leads.
    """
    request, shown, cookies = rest.http, rest.shown_url, None
    for _ in range(MAX_REDIRECTS + 1):
        method = request.method
        with _reported(method, shown, rest):
            response = await transport.handle_async_request(request)
            response.request = request
            try:
                target = _target(response) if follows else None
                if target is None:
                    body = Body(max_bytes)
                    if method != "HEAD":
                        await body.read(response)
                    return Answer(shown, method, response, body)
            finally:
                await response.aclose()
        if cookies is None or _origin(target) != _origin(request.url):
            cookies = httpx.Cookies()  # they do not leave their origin either
        if _origin(target) == _origin(request.url):
            cookies.extract_cookies(response)
        request = _redirected(request, response, target, rest, cookies)
        shown = rest.redacted(without_secrets(request.url))
    raise RestRedirectError(rest.http.method, rest.shown_url, f"more than {MAX_REDIRECTS} redirects.")


def _target(response: httpx.Response) -> httpx.URL | None:
    """Return the target of a redirect; None for any other response."""
    if not response.has_redirect_location:
        return None
    request, text = response.request, response.headers["Location"]
    try:
        target = request.url.join(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise RestRedirectError(request.method, _place(request), "The redirect leads to no URL.") from error
    if target.scheme not in ("http", "https") or not target.host or target.userinfo:
        raise RestRedirectError(request.method, _place(request), "The redirect leads to no web address.")
    return target.copy_with(fragment=None) if target.fragment else target


def _place(request: httpx.Request) -> str:
    return str(request.url.copy_with(query=None))


def _redirected(
    request: httpx.Request,
    response: httpx.Response,
    target: httpx.URL,
    rest: RestRequest,
    cookies: httpx.Cookies,
) -> httpx.Request:
    """Return the request that a redirect asks for (RFC 9110, section 15.4)."""
    headers = request.headers.copy()
    for name in ("Host", "Cookie"):
        headers.pop(name, None)
    if _origin(target) != _origin(rest.http.url):
        for name in rest.credentials:
            headers.pop(name, None)
    elif "cookie" in rest.http.headers:
        headers["Cookie"] = rest.http.headers["cookie"]
    is_other = response.status_code == 303 or (
        response.status_code in (301, 302) and request.method == "POST"
    )
    method = "GET" if is_other and request.method != "HEAD" else request.method
    if method != request.method:
        for name in _OF_BODY:
            headers.pop(name, None)
        following = httpx.Request(method, target, headers=headers, extensions=request.extensions)
    else:
        headers["Host"] = target.netloc.decode("ascii")  # httpx leaves it out where a stream is given
        following = httpx.Request(
            method, target, headers=headers, stream=request.stream, extensions=request.extensions
        )
    if "cookie" not in following.headers:
        cookies.set_cookie_header(following)
    return following


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


@contextmanager
def _reported(method: str, url: str, rest: RestRequest) -> Generator[None]:
    """Turn the errors of the libraries into ours."""
    try:
        yield
    except RestError:
        raise
    except (httpx.NetworkError, httpx.TimeoutException, httpcore.ConnectError) as error:
        raise _lost(method, url, rest, error) from error
    except httpx.RemoteProtocolError as error:
        if "disconnected" in str(error) or "incomplete" in str(error) or "closed connection" in str(error):
            raise _lost(method, url, rest, error) from error
        raise RestResponseError(method, url, rest.redacted(_text(error))) from error
    except (httpx.HTTPError, EncodingError, zlib.error) as error:
        raise RestResponseError(method, url, rest.redacted(_text(error))) from error


def _lost(method: str, url: str, rest: RestRequest, error: BaseException) -> RestConnectionError:
    """Return the error for a connection that was lost, or not made."""
    cause = rest.redacted(_text(error))
    if rest.is_outcome_unknown:
        return RestOutcomeUnknownError(method, url, cause, rest.sending.bytes_written)
    was_made = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpcore.ConnectError))
    if not was_made and isinstance(_root(error), ssl.SSLError):
        return RestTlsError(method, url, cause)
    return RestConnectionError(method, url, cause, was_sent=was_made and rest.sending.bytes_written > 0)


def _root(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = deeper
    return error


def _text(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__
