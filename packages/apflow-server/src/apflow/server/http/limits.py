"""How much a caller may ask for: requests a minute, bytes of a request, depth of its JSON.

Everything here is counted in this process: several replicas each have their own count.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json as read_json_text
from apflow.core.payload.json_value import is_deeper
from apflow.core.settings import Settings
from apflow.server.http.api_error import (
    Code,
    MalformedRequestError,
    RequestTooLargeError,
    TooManyRequestsError,
)

BATCH: Final = 100  # requests in one batch
ENVELOPE: Final = 8  # levels of JSON around the values of a task
MAX_DEPTH: Final = 200  # levels that are read at all
LOCATED: Final = 1 << 16  # bytes of a request in which the place of a fault is looked for
SET_BACK: Final = 2.0  # seconds by which the wall clock falls behind: it was set back, not slowed down
BODY_TIME: Final = 60.0  # seconds for a body to arrive

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class Rate:
    """Counts the requests of each user and each address."""

    def __init__(self, settings: Settings) -> None:
        self._limit: RateLimitItem = RateLimitItemPerMinute(settings.rate_limit)
        self._storage = MemoryStorage()
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._ahead = time.time() - time.monotonic()  # the windows are counted by the wall clock

    def check_user(self, user_id: str | None, requests: int = 1) -> None:
        """Count requests of a user. Who has no name is counted by address alone.

        Raises:
            TooManyRequestsError: it is one too many.
        """
        if user_id is not None and requests:
            self._check("user", user_id, requests)

    def check_address(self, address: str) -> None:
        """Count a request from an address.

        Raises:
            TooManyRequestsError: it is one too many.
        """
        self._check("address", address, 1)

    def _check(self, kind: str, who: str, requests: int) -> None:
        self._heed_clock()
        if not self._limiter.hit(self._limit, kind, who, cost=requests):
            wait = self._limiter.get_window_stats(self._limit, kind, who).reset_time
            raise TooManyRequestsError(
                f"More than {self._limit.amount} requests a minute from one {kind}.", wait - time.time()
            )

    def _heed_clock(self) -> None:
        """Reset the counts if the wall clock was set back: they would last until it catches up."""
        ahead = time.time() - time.monotonic()
        if ahead < self._ahead - SET_BACK:
            self._storage.reset()
            self._ahead = ahead
        self._ahead = max(self._ahead, ahead)


async def read_json(request: Request, settings: Settings) -> Json:
    """Return the JSON that a request carries. Reads at most the permitted size.

    Raises:
        MalformedRequestError: the body is not declared as JSON, is not valid JSON, is nested too deeply, or
            arrives too slowly.
        RequestTooLargeError: there is too much of it.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise MalformedRequestError("Content-Type must be application/json.", status=415)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise MalformedRequestError(
            "A request is not to be compressed: leave Content-Encoding out.", status=415
        )
    return parse(await read_body(request, settings), settings.max_json_depth + ENVELOPE)


async def read_body(request: Request, settings: Settings) -> bytearray:
    """Return the body of a request. Reads at most the permitted size.

    Raises:
        MalformedRequestError: it arrives too slowly.
        RequestTooLargeError: there is too much of it.
    """
    try:
        async with asyncio.timeout(BODY_TIME):
            return await _read(request, settings.max_request_bytes)
    except TimeoutError as error:
        raise MalformedRequestError("The request took too long to arrive.", status=408) from error


async def _read(request: Request, limit: int) -> bytearray:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise RequestTooLargeError(f"A request has at most {limit} bytes (APFLOW_MAX_REQUEST_BYTES).")
    except ClientDisconnect as error:
        raise MalformedRequestError("The caller went away before the end of the request.") from error
    return body


def parse(body: bytes | bytearray, depth: int) -> Json:
    """Read JSON text, as strictly as its standard; a key that an object repeats is refused.

    Raises:
        MalformedRequestError: it is not JSON, or nested too deeply.
    """
    try:
        text = body.decode()
        if _SURROGATE.search(text):
            from_json(text)  # refuses a lone surrogate, which UTF-8 cannot encode
        value = read_json_text(text, max_depth=MAX_DEPTH, is_located=len(body) <= LOCATED)
    except ValueError as error:
        raise MalformedRequestError(
            f"This is not valid JSON: {str(error).rstrip('.')}.", Code.PARSE
        ) from error
    if is_deeper(value, depth):
        raise MalformedRequestError(f"The JSON is nested more than {depth} levels deep.")
    return value
