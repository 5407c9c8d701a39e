"""How an operation on an MCP server can fail.

```text
ExecutorError
└── McpError
    ├── McpInputError         the inputs describe no operation; nothing was started or connected to
    ├── McpConnectError       no session with the server was established
    │   ├── McpDiscoveryError the token endpoint cannot be discovered
    │   ├── McpAuthError      the token endpoint issued no access token
    │   └── McpHttpError      the server responded with an HTTP status that is not a success
    ├── McpToolError          the tool reports an error
    ├── McpRequestError       the server refuses the request, with a JSON-RPC error code
    ├── McpInputRequiredError   the server requires input in the middle of the operation
    ├── McpLostError          the connection, or the program of the server, ended before the response
    │   └── McpSessionEndedError   the server has ended the session
    ├── McpProtocolError      the server does not follow the protocol
    ├── McpTooLargeError      the server sends more than is allowed
    └── McpTimeoutError       the operation took too long
```

The command policy adds `CommandRefusedError` and `CommandStartError`; the network policy adds
`AddressRefusedError` and `HostNotFoundError`.
"""

from __future__ import annotations

from http import HTTPStatus

from apflow.core.errors import ExecutorError

METHOD_NOT_FOUND = -32601
UNAVAILABLE_STATUSES = frozenset({408, 429, 502, 503, 504})  # of a server that may answer later


class McpError(ExecutorError):
    """An operation on an MCP server that failed."""


class McpInputError(McpError):
    """The inputs describe no operation. Nothing was started or connected to."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"`{name}` {fault}. Nothing was sent.")
        self.name = name


class McpConnectError(McpError):
    """No session with the server was established."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(f"No MCP session with {where}: {cause}.")


class McpHttpError(McpConnectError):
    """The server responded with an HTTP status that is not a success."""

    def __init__(self, where: str, status_code: int, body: str) -> None:
        phrase = HTTPStatus(status_code).phrase if status_code in set(HTTPStatus) else ""
        shown = f", {body!r}" if body else ""
        super().__init__(where, f"it responds with HTTP {status_code} {phrase}{shown}{_advice(status_code)}")
        self.status_code = status_code


class McpDiscoveryError(McpConnectError):
    """The token endpoint cannot be discovered. No credentials were sent."""

    def __init__(self, where: str, cause: str) -> None:
        shown = where.partition("?")[0]
        super().__init__(shown, f"its token endpoint is not known: {cause}. Give it as `auth.token_url`")


class McpAuthError(McpConnectError):
    """The token endpoint issued no access token."""

    def __init__(self, token_url: str, status_code: int, reason: str) -> None:
        said = f": {reason}" if reason else ""
        cause = f"it issues no access token (HTTP {status_code}{said}). Check the credentials in `auth`"
        super().__init__(token_url.partition("?")[0], cause)
        self.status_code = status_code


class McpToolError(McpError):
    """The tool reports an error: its result has `isError`."""

    def __init__(self, tool: str, text: str) -> None:
        super().__init__(f"The tool {tool!r} reports an error: {text or 'it gives no reason'}")
        self.tool = tool


class McpRequestError(McpError):
    """The server refuses the request with a JSON-RPC error."""

    def __init__(self, where: str, method: str, code: int, message: str) -> None:
        advice = " The server does not offer this operation." if code == METHOD_NOT_FOUND else ""
        super().__init__(f"{where} refuses {method} with error {code}: {message.rstrip('.')}.{advice}")
        self.method, self.code = method, code


class McpInputRequiredError(McpError):
    """The server requires input in the middle of an operation."""

    def __init__(self, where: str, method: str, reason: str = "") -> None:
        super().__init__(
            f"{where} requires input of a user or of a language model to complete {method}. "
            + (reason or "A task cannot provide it: give all that is needed in `arguments`.")
        )
        self.method = method


class McpLostError(McpError):
    """The connection, or the program of the server, ended before the response. The outcome is unknown."""

    def __init__(self, where: str, how: str, stderr: str = "") -> None:
        tail = stderr.strip()
        super().__init__(
            f"The connection to {where} was lost: {how}." + (f"\nstderr: {tail}" if tail else "")
        )
        self.stderr = stderr


class McpSessionEndedError(McpLostError):
    """The server does not know the session any more. It did not act on the request."""

    def __init__(self, where: str) -> None:
        super().__init__(where, "the server has ended the session")


class McpProtocolError(McpError):
    """The server does not follow the protocol."""

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"{where} does not follow the Model Context Protocol: {fault}.")


class McpTooLargeError(McpError):
    """The server sends more than is allowed. Results are never truncated."""

    def __init__(self, where: str, what: str, limit: int, advice: str) -> None:
        super().__init__(f"{where} sends {what} of more than {limit} bytes. {advice}")
        self.limit = limit


class McpTimeoutError(McpError):
    """The operation took too long. It was cancelled, and the connection was closed."""

    def __init__(self, where: str, operation: str, timeout: float, note: str = "") -> None:
        more = f" {note}" if note else ""
        super().__init__(f"{operation} on {where} took over {timeout:g} s.{more}")
        self.timeout = timeout


def _advice(status_code: int) -> str:
    if status_code in (401, 403, 407):
        return ". Check the credentials in `headers`"
    if status_code in (404, 405):
        return ". Check the path of `url`, and whether the server needs `transport: sse`"
    if 300 <= status_code < 400:
        return ". Redirects to other origins are not followed: give the final address as `url`"
    return ""
