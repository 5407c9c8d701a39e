"""The public keys of an issuer of tokens, fetched from its JWKS address and kept.

An unknown key triggers another fetch, but at most one every few seconds for all callers together: requests in
between wait for that fetch. So a key that has just been added is found, and a flood of invented keys costs
the issuer nothing. What was fetched stays good while the issuer cannot be reached.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx
import jwt

from apflow.core.payload.json_value import loads
from apflow.server.http.api_error import UnauthorizedError, UnavailableError

logger = logging.getLogger(__name__)

FETCH_AGAIN: Final = 2.0  # minimum seconds between two fetches
FRESH: Final = 300.0  # seconds after which keys are fetched again, to remove withdrawn ones
TIMEOUT: Final = 5.0
MAX_SIZE: Final = 1 << 20  # bytes of a document
MAX_KID_LENGTH: Final = 256
MAX_WAITING: Final = 1000  # callers that wait for a fetch

FAMILIES: Mapping[str, str] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class JwksClient:
    """Keys by their ids, from one address. Bound to the event loop of its first use."""

    def __init__(self, url: str, *, fetch_again: float = FETCH_AGAIN, fresh: float = FRESH) -> None:
        self.url = url
        self._fetch_again, self._fresh = fetch_again, fresh
        self._keys: list[Mapping[str, Any]] | None = None  # None: never fetched
        self._made: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._fetched_at = -float("inf")
        self._tried_at = -float("inf")
        self._fetching: asyncio.Task[bool] | None = None
        self._is_asking = False
        self._waiting = 0
        self._client: httpx.AsyncClient | None = None

    async def find(self, kid: object, algorithm: str) -> jwt.PyJWK:
        """Return the key of an id that checks tokens of an algorithm.

        Raises:
            UnauthorizedError: the issuer has no such key.
            UnavailableError: the issuer cannot be asked.
        """
        if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID_LENGTH):
            raise UnauthorizedError("its kid is not a valid key id")
        found = self._known(kid, algorithm)
        if found is not None:
            if time.monotonic() - self._fetched_at > self._fresh:
                self._fetch_soon()  # in the background
            return found
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("Too many callers wait for the keys of the issuer.")
        self._waiting += 1
        try:
            is_late = self._is_asking  # what is answered now may be older than the key
            is_fetched = await asyncio.shield(self._fetch_soon())
            found = self._known(kid, algorithm)
            if found is None and is_late:
                is_fetched = await asyncio.shield(self._fetch_soon())
                found = self._known(kid, algorithm)
        finally:
            self._waiting -= 1
        if found is not None:
            return found
        if not is_fetched:
            raise UnavailableError("The keys to check tokens with cannot be fetched now.")
        raise UnauthorizedError("its key is not known")

    async def close(self) -> None:
        """Let go of connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _known(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        made = self._made.get((kid, algorithm))
        if made is None and self._keys is not None:
            made = make_key(self._keys, kid, algorithm)
            if made is not None:
                self._made[kid, algorithm] = made
        return made

    def _fetch_soon(self) -> asyncio.Task[bool]:
        """Return the running fetch, or start one."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), name="apflow:server:keys")
        return self._fetching

    async def _fetch(self) -> bool:
        await asyncio.sleep(max(0.0, self._tried_at + self._fetch_again - time.monotonic()))
        self._is_asking = True
        try:
            async with asyncio.timeout(TIMEOUT):
                keys = read_keys(await self._get())
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            logger.warning("The keys at %s cannot be fetched: %s", self.url, error or type(error).__name__)
            return False
        else:
            self._keys, self._made, self._fetched_at = keys, {}, time.monotonic()
            return True
        finally:
            self._is_asking = False
            self._tried_at = time.monotonic()

    async def _get(self) -> bytes:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False)
        content = bytearray()
        async with self._client.stream("GET", self.url, headers={"Accept": "application/json"}) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_SIZE:
                    raise ValueError(f"the document has more than {MAX_SIZE} bytes")
        return bytes(content)


def read_keys(document: bytes) -> list[Mapping[str, Any]]:
    """Return the keys of a JWKS document that may check signatures.

    Raises:
        ValueError: it is no such document.
    """
    read = loads(document)
    keys = cast("dict[str, Any]", read).get("keys") if isinstance(read, dict) else None
    if not isinstance(keys, list):
        raise ValueError("it is not a JWKS document")  # noqa: TRY004 - what is wrong is the document
    named = [cast("dict[str, Any]", key) for key in cast("list[object]", keys) if isinstance(key, dict)]
    return [key for key in named if key.get("use", "sig") == "sig" and key.get("kty") in FAMILIES.values()]


def make_key(keys: list[Mapping[str, Any]], kid: str | None, algorithm: str) -> jwt.PyJWK | None:
    """Return the key of an id for an algorithm; without an id, the only one that there is for it."""
    fitting = [
        key
        for key in keys
        if key["kty"] == FAMILIES.get(algorithm[:2])
        and key.get("alg", algorithm) == algorithm
        and (kid is None or key.get("kid") == kid)
    ]
    if not fitting or (kid is None and len(fitting) > 1):
        return None
    try:
        return jwt.PyJWK(dict(fitting[0]), algorithm)
    except (jwt.PyJWTError, ValueError) as error:
        logger.warning("A key of the issuer cannot be used: %s", type(error).__name__)
        return None
