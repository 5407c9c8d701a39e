"""How an exchange over a WebSocket can fail.

```text
ExecutorError
└── WebSocketError
    ├── WebSocketInputError             the inputs cannot be used; nothing was connected to
    ├── WebSocketTlsError               no trusted TLS connection came about
    ├── WebSocketHandshakeError         the server does not support WebSocket as requested
    │   └── WebSocketRefusedError       the server refuses, with a status code
    │       ├── WebSocketUnauthorizedError   because of the credentials
    │       └── WebSocketRedirectedError     and points elsewhere
    ├── WebSocketClosedError            the connection ended before everything was said
    ├── WebSocketTooLargeError          the replies are larger than allowed
    ├── WebSocketUnmatchedError         none of the expected number of replies matched
    └── WebSocketTimeoutError           it took too long
```

The guard of the network adds `AddressRefusedError`, `HostNotFoundError` and `HostUnreachableError`.
"""

from __future__ import annotations

from http import HTTPStatus

from apflow.core.errors import ExecutorError


class WebSocketError(ExecutorError):
    """An exchange over a WebSocket that did not come to its end."""


class WebSocketInputError(WebSocketError):
    """The inputs cannot be used. Nothing was connected to."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"`{name}` {fault}. Nothing was sent.")
        self.name = name


class WebSocketTlsError(WebSocketError):
    """No trusted TLS connection came about."""

    def __init__(self, where: str, cause: str, *, is_untrusted: bool) -> None:
        advice = (
            "Name the file of its CA as `verify`."
            if is_untrusted
            else "Check that the server speaks TLS at this port (wss://), or use ws://."
        )
        super().__init__(f"No TLS connection to {where}: {cause}. {advice}")
        self.is_untrusted = is_untrusted


class WebSocketHandshakeError(WebSocketError):
    """The server does not support WebSocket as requested."""

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"No WebSocket connection to {where}: {fault}.")


class WebSocketRefusedError(WebSocketHandshakeError):
    """The server refuses the connection with a status code."""

    advice = "Check the path of `url` and what the server wants"

    def __init__(self, where: str, status_code: int, *, detail: str = "") -> None:
        phrase = HTTPStatus(status_code).phrase if status_code in set(HTTPStatus) else ""
        status = f"{status_code} {phrase}".strip()
        super().__init__(where, f"the server refuses with HTTP {status}{detail}. {self.advice}")
        self.status_code = status_code


class WebSocketUnauthorizedError(WebSocketRefusedError):
    """The server does not accept the credentials, or wants some."""

    advice = "Check the credentials in `headers`"


class WebSocketRedirectedError(WebSocketRefusedError):
    """The server points elsewhere. Redirects are not followed."""

    advice = "Redirects are not followed: give the address that is meant as `url`"


class WebSocketClosedError(WebSocketError):
    """The connection ended before everything was said.

    `code` and `reason` are those of the close frame: the peer's, or what this side had to object. 1006
    stands for no close frame at all.
    """

    def __init__(self, where: str, how: str, said: str, *, code: int, reason: str) -> None:
        super().__init__(f"The connection to {where} ended too early: {how}; {said}.")
        self.code, self.reason = code, reason


class WebSocketTooLargeError(WebSocketError):
    """The replies are larger than allowed. Messages are never truncated."""

    def __init__(self, where: str, limit: int, said: str) -> None:
        super().__init__(
            f"{where} says more than {limit} bytes; {said}. "
            "Raise `max_output_bytes`, or ask for fewer or smaller replies."
        )
        self.limit = limit


class WebSocketUnmatchedError(WebSocketError):
    """The expected number of replies came, and `until` was true for none of them."""

    def __init__(self, where: str, until: str, count: int, fault: str | None) -> None:
        failing = f" On the last one it failed: {fault}." if fault else ""
        super().__init__(
            f"None of the {count} replies of {where} makes {until!r} true.{failing} "
            "Correct `until`, or raise `response_count`."
        )
        self.until, self.count = until, count


class WebSocketTimeoutError(WebSocketError):
    """It took too long. The connection was closed."""

    def __init__(self, where: str, timeout: float, said: str) -> None:
        super().__init__(f"The exchange with {where} took over {timeout:g} s; {said}.")
        self.timeout = timeout
