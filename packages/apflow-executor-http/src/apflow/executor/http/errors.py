"""What can go wrong with a request. The class name becomes the `error_type` of the task."""

from __future__ import annotations

from apflow.core.errors import ExecutorError


class RestError(ExecutorError):
    """A request did not come to the end that was asked for."""


class RestInputError(RestError):
    """The inputs describe no request that may be sent. Nothing was."""


class RestStatusError(RestError):
    """The server answered with a status that was not expected.

    `is_redirected`: the answer is that of another method, to which a redirect led.
    """

    is_redirected = False

    def __init__(self, method: str, url: str, status_code: int, body: str, retry_after: float | None) -> None:
        said = f" It said: {body}" if body else ""
        super().__init__(
            f"{method} {url} was answered with status {status_code}.{said} "
            "Name the status in expect_status if it is as it should be."
        )
        self.method, self.url, self.status_code, self.body = method, url, status_code, body
        self.retry_after = retry_after


class RestTimeoutError(RestError):
    """The answer was not complete in time."""

    def __init__(self, method: str, url: str, seconds: float, sent: int = 0) -> None:
        unknown = f" {_unknown(sent)}" if sent else ""
        super().__init__(f"{method} {url} took longer than {seconds:g} s (timeout).{unknown}")
        self.method, self.url, self.seconds, self.sent = method, url, seconds, sent


class RestConnectionError(RestError):
    """No connection was made, or it was lost."""

    def __init__(self, method: str, url: str, cause: str, *, was_sent: bool) -> None:
        where = "The connection was lost" if was_sent else "No connection could be made"
        super().__init__(f"{method} {url}: {where.lower()}: {cause}. Check that the server runs and listens.")
        self.method, self.url, self.was_sent = method, url, was_sent


class RestOutcomeUnknownError(RestConnectionError):
    """A request that must not be sent twice was lost after the server may have received it.

    `sent` is how many bytes of the request were written.
    """

    def __init__(self, method: str, url: str, cause: str, sent: int) -> None:
        super().__init__(method, url, cause, was_sent=True)
        self.args = (f"{method} {url}: the connection was lost: {cause}. {_unknown(sent)}",)
        self.sent = sent


class RestTlsError(RestConnectionError):
    """The server's certificate is not trusted, or it speaks no TLS."""

    def __init__(self, method: str, url: str, cause: str) -> None:
        super().__init__(method, url, cause, was_sent=False)
        self.args = (
            f"{method} {url}: no connection by TLS: {cause}. `verify` names a file with the CA to trust.",
        )


def _unknown(sent: int) -> str:
    """Return what the user must know and do about a request whose outcome is unknown."""
    return (
        f"The outcome is unknown: {sent} bytes of the request were sent, and the server may have acted on "
        "them. Check the service before you run the task again. If the service acts only once on requests "
        "with the same key, set `retry` and an own Idempotency-Key in `headers`; if a second request does "
        'no harm, set `retry` and policy {"effect": "idempotent"}.'
    )


class RestResponseError(RestError):
    """The answer cannot be read: no HTTP, or encoded in a way that is not understood."""

    def __init__(self, method: str, url: str, cause: str) -> None:
        super().__init__(f"{method} {url}: the answer cannot be read: {cause}.")
        self.method, self.url = method, url


class RestRedirectError(RestError):
    """A redirect that leads nowhere, or one too many."""

    def __init__(self, method: str, url: str, cause: str) -> None:
        super().__init__(f"{method} {url}: {cause}")
        self.method, self.url = method, url
