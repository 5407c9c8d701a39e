"""The keys of an issuer: found, changed under load, kept while it is away, and never asked for too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import jwt
import pytest
from issuer import Issuer, issuing

from apflow.server.auth.jwks import JwksClient, read_keys
from apflow.server.http.api_error import UnauthorizedError, UnavailableError

AGAIN = 0.3  # seconds between two fetches, in these tests


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


@pytest.fixture
async def ring(issuer: Issuer) -> AsyncIterator[JwksClient]:
    made = JwksClient(issuer.url, fetch_again=AGAIN, fresh=1.0)
    yield made
    await made.close()


async def test_a_key_is_fetched_once_however_many_ask(ring: JwksClient, issuer: Issuer):
    await asyncio.gather(*(ring.find(issuer.kid, "RS256") for _ in range(200)))
    await ring.find(issuer.kid, "RS256")
    assert issuer.asked == 1


async def test_keys_change_under_load_without_one_false_refusal(ring: JwksClient, issuer: Issuer):
    until = time.monotonic() + 2.0
    checked = 0

    async def check() -> None:
        nonlocal checked
        while time.monotonic() < until:
            token = issuer.token({"sub": "ann"})
            key = await ring.find(jwt.get_unverified_header(token)["kid"], "RS256")
            assert jwt.decode(token, key, ["RS256"])["sub"] == "ann"
            checked += 1
            await asyncio.sleep(0)

    async def rotate() -> None:
        while time.monotonic() < until:
            await asyncio.to_thread(issuer.rotate)
            await asyncio.sleep(0.05)  # far more often than keys are fetched

    await asyncio.gather(rotate(), *(check() for _ in range(20)))
    assert checked > 20
    assert issuer.asked <= 3 + 2.0 / AGAIN


async def test_a_flood_of_unknown_keys_does_not_become_one_at_the_issuer(ring: JwksClient, issuer: Issuer):
    await ring.find(issuer.kid, "RS256")
    asked = [ring.find(f"invented-{at}", "RS256") for at in range(500)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in answers} == {UnauthorizedError}
    assert issuer.asked == 2


async def test_keys_stay_good_while_the_issuer_is_away_and_unknown_ones_are_not_judged(
    ring: JwksClient, issuer: Issuer
):
    await ring.find(issuer.kid, "RS256")
    issuer.is_down = True
    await asyncio.sleep(1.1)  # they are not fresh any more
    async with asyncio.timeout(30):
        while issuer.asked < 2:
            await ring.find(issuer.kid, "RS256")
            await asyncio.sleep(0.1)
    with pytest.raises(UnavailableError):
        await ring.find("new", "RS256")
    issuer.is_down = False
    issuer.rotate()
    await ring.find(issuer.kid, "RS256")


async def test_a_key_that_was_withdrawn_is_forgotten(ring: JwksClient, issuer: Issuer):
    old = issuer.kid
    await ring.find(old, "RS256")
    issuer.rotate()
    del issuer.keys[old]
    await asyncio.sleep(1.1)
    await ring.find(old, "RS256")  # this one makes it look
    await ring.find(issuer.kid, "RS256")
    with pytest.raises(UnauthorizedError):
        await ring.find(old, "RS256")


async def test_only_a_key_of_the_kind_that_an_algorithm_needs_is_found(ring: JwksClient, issuer: Issuer):
    for kid, algorithm in [
        (issuer.kid, "ES256"),
        (issuer.kid, "PS256"),
        ("oct", "RS256"),
        ("broken", "RS256"),
    ]:
        with pytest.raises(UnauthorizedError):
            await ring.find(kid, algorithm)


async def test_without_an_id_the_only_key_is_taken_and_none_of_several():
    with issuing() as issuer:
        ring = JwksClient(issuer.url, fetch_again=AGAIN)
        issuer.keys = {"one": issuer.key}
        issuer.kid = "one"
        issuer.document = lambda: (
            b'{"keys": [%s]}'
            % (  # type: ignore[method-assign]
                jwt.algorithms.RSAAlgorithm.to_jwk(issuer.key.public_key()).encode()
            )
        )
        assert await ring.find(None, "RS256")
        await ring.close()


async def test_keys_that_cannot_be_read_are_as_if_the_issuer_were_away(ring: JwksClient, issuer: Issuer):
    await ring.find(issuer.kid, "RS256")
    issuer.document = lambda: b"[" * 200_000  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        await ring.find("new", "RS256")
    assert await ring.find(issuer.kid, "RS256")


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, b'{"keys": [1' + b"0" * 5000 + b"]}"],
    ids=lambda document: document[:20],
)
def test_what_is_no_jwks_document_is_refused(document: bytes):
    with pytest.raises(ValueError):
        read_keys(document)
