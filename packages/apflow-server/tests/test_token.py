"""Tokens that are not good ones, each refused for its own reason, and those that are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuer import Issuer, issuing
from serving import SECRET, Served, bearer, serving

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.app import create_app
from apflow.server.auth.token import TokenCheck

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tasks.count"}
AUDIENCE, ISSUER_NAME = "apflow-of-tests", "https://issuer.test"
FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims(**more: Any) -> dict[str, Any]:
    """The claims of a good token; None leaves one out."""
    every = {"sub": "ann", "exp": time.time() + 600, "aud": AUDIENCE, "iss": ISSUER_NAME} | more
    return {name: value for name, value in every.items() if value is not None}


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: Any, payload: Any, secret: bytes = SECRET.encode()) -> str:
    """A token signed with HS256, whatever its parts are."""
    signed = f"{part(header)}.{part(payload)}"
    return f"{signed}.{part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def with_secret(key: str = SECRET, algorithm: str = "HS256", headers: Any = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


@pytest.fixture(scope="module")
def strict(issuer: Issuer) -> Iterator[Served]:
    """A server that takes tokens with a secret, and with keys of an issuer."""
    settings = Settings(jwt_secret=SECRET, jwks_url=issuer.url, jwt_audience=AUDIENCE, jwt_issuer=ISSUER_NAME)
    with serving(settings) as found:
        yield found


def own(issuer: Issuer, headers: Any = None, **more: Any) -> str:
    return issuer.token(claims(**more), headers=headers)


def public_pem(issuer: Issuer) -> bytes:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return issuer.key.public_key().public_bytes(serialization.Encoding.PEM, kind)


def jwk(key: Any) -> Any:
    return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))


def signed_by_foreign(issuer: Issuer, **headers: Any) -> str:
    return jwt.encode(claims(), FOREIGN, "RS256", headers={"kid": issuer.kid} | headers)


HOSTILE: dict[str, Callable[[Issuer], str]] = {
    "text": lambda i: "letmein",
    "two parts": lambda i: ".".join(with_secret().split(".")[:2]),
    "four parts": lambda i: with_secret() + ".x",
    "five parts, encrypted": lambda i: ".".join(["e30"] * 5),
    "an empty signature": lambda i: with_secret().rpartition(".")[0] + ".",
    "an empty payload": lambda i: "{0}..{2}".format(*with_secret().split(".")),
    "no algorithm": lambda i: by_hand({"typ": "JWT"}, claims()),
    "algorithm none": lambda i: f"{part({'alg': 'none'})}.{part(claims())}.",
    "algorithm none with a signature": lambda i: by_hand({"alg": "none"}, claims()),
    "algorithm None": lambda i: by_hand({"alg": "nOnE"}, claims()),
    "algorithm null": lambda i: by_hand({"alg": None}, claims()),
    "algorithm a list": lambda i: by_hand({"alg": ["HS256"]}, claims()),
    "another algorithm with the secret": lambda i: with_secret(algorithm="HS512"),
    "another secret": lambda i: with_secret("another secret that is long enough to be taken for one"),
    "an empty secret": lambda i: by_hand({"alg": "HS256"}, claims(), b""),
    "the public key as a secret": lambda i: by_hand({"alg": "HS256", "kid": i.kid}, claims(), public_pem(i)),
    "the secret's algorithm named RS256": lambda i: by_hand({"alg": "RS256", "kid": i.kid}, claims()),
    "a key of another curve": lambda i: jwt.encode(
        claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": i.kid}
    ),
    "PS256 with a key for RS256": lambda i: jwt.encode(claims(), i.key, "PS256", headers={"kid": i.kid}),
    "a foreign key": lambda i: signed_by_foreign(i),
    "a foreign key, embedded": lambda i: signed_by_foreign(i, jwk=jwk(FOREIGN)),
    "a foreign key at jku": lambda i: signed_by_foreign(i, jku="http://127.0.0.1:9/keys"),
    "a foreign key at x5u": lambda i: signed_by_foreign(i, x5u="http://127.0.0.1:9/cert"),
    "a foreign certificate": lambda i: signed_by_foreign(i, x5c=["MIIB"]),
    "an unknown kid": lambda i: own(i, headers={"kid": "nobody"}),
    "a kid that is a path": lambda i: own(i, headers={"kid": "../../../../dev/null"}),
    "a kid that is a number": lambda i: by_hand({"alg": "RS256", "kid": 5}, claims()),
    "a long kid": lambda i: own(i, headers={"kid": "k" * 1000}),
    "a critical header": lambda i: with_secret(headers={"crit": ["exp"]}),
    "an unknown critical header": lambda i: with_secret(headers={"crit": ["x"], "x": 1}),
    "a detached payload": lambda i: by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims()),
    "a header with two algorithms": lambda i: by_hand(b'{"alg":"none","alg":"HS256"}', claims()),
    "a header that is a list": lambda i: by_hand(["HS256"], claims()),
    "a header that is not JSON": lambda i: by_hand(b"{", claims()),
    "a deep header": lambda i: by_hand(b'{"alg":' + b"[" * 2000, claims()),
    "a payload that is a list": lambda i: by_hand({"alg": "HS256"}, ["ann"]),
    "a payload that is not JSON": lambda i: by_hand({"alg": "HS256"}, b"\xff\xfe"),
    "too long": lambda i: with_secret(padding="x" * 10_000),
    "expired": lambda i: with_secret(exp=time.time() - 60),
    "expired, of the issuer": lambda i: own(i, exp=time.time() - 60),
    "not valid yet": lambda i: with_secret(nbf=time.time() + 600),
    "issued in the future": lambda i: with_secret(iat=time.time() + 600),
    "no exp": lambda i: with_secret(exp=None),
    "an exp that is text": lambda i: by_hand({"alg": "HS256"}, claims(exp="9999999999")),
    "an exp beyond every clock": lambda i: by_hand({"alg": "HS256"}, claims(exp=1e300)),
    "an exp that no float can hold": lambda i: by_hand({"alg": "HS256"}, claims(exp=10**400)),
    "an exp that is true": lambda i: by_hand({"alg": "HS256"}, claims(exp=True)),
    "an endless exp": lambda i: by_hand({"alg": "HS256"}, claims(exp=float("inf"))),
    "an exp that is a list": lambda i: by_hand({"alg": "HS256"}, claims(exp=[9999999999])),
    "another audience": lambda i: with_secret(aud="another"),
    "no audience": lambda i: with_secret(aud=None),
    "another issuer": lambda i: with_secret(iss="https://other.test"),
    "no issuer": lambda i: with_secret(iss=None),
    "no sub": lambda i: with_secret(sub=None),
    "an empty sub": lambda i: with_secret(sub=""),
    "a blank sub": lambda i: with_secret(sub=" "),
    "a sub that is a number": lambda i: by_hand({"alg": "HS256"}, claims(sub=5)),
    "a sub that is an object": lambda i: by_hand({"alg": "HS256"}, claims(sub={"$ne": None})),
    "a sub with NUL": lambda i: with_secret(sub="ann\x00"),
    "a sub with a new line": lambda i: with_secret(sub="ann\nadmin"),
    "a long sub": lambda i: with_secret(sub="a" * 1000),
    "another alphabet": lambda i: with_secret().replace(".", "\uff0e"),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_token_is_refused(strict: Served, issuer: Issuer, hostile: Callable[[Issuer], str]):
    given = b"Bearer " + hostile(issuer).encode()
    answer = httpx.post(f"{strict.url}/tasks", json=CALL, headers={"Authorization": given}, timeout=10)  # type: ignore[dict-item]
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="apflow"')
    assert "error" in answer.json()
    assert "result" not in answer.json()


def test_there_are_at_least_forty_of_them():
    assert len(HOSTILE) >= 40


@pytest.mark.parametrize("given", ["Basic YTpi", "Bearer", "Token x", "Bearer,x", ""], ids=str)
def test_another_kind_of_credentials_is_refused(strict: Served, given: str):
    assert httpx.post(f"{strict.url}/tasks", json=CALL, headers={"Authorization": given}).status_code == 401


def test_two_tokens_are_refused(strict: Served):
    headers = [("Authorization", f"Bearer {with_secret()}")] * 2
    assert httpx.post(f"{strict.url}/tasks", json=CALL, headers=headers).status_code == 401


def test_who_brings_no_token_is_asked_for_one(strict: Served):
    answer = httpx.post(f"{strict.url}/tasks", json=CALL)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="apflow"')


def test_good_tokens_of_both_kinds_are_taken(strict: Served, issuer: Issuer):
    for token in (
        with_secret(),
        own(issuer),
        with_secret(aud=[AUDIENCE, "other"]),
        with_secret(exp=time.time() - 1),
    ):
        answer = httpx.post(f"{strict.url}/tasks", json=CALL, headers={"Authorization": f"bearer {token}"})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("more", "sees_all"),
    [
        ({"role": "admin"}, True),
        ({"roles": ["user", "admin"]}, True),
        ({"roles": "admin"}, True),
        ({"scope": "tasks admin"}, True),
        ({"role": "administrator"}, False),
        ({"roles": {"admin": True}}, False),
        ({"scope": "tasks:admin"}, False),
        ({"admin": True}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_role_of_an_admin_is_read_from_its_claims(more: dict[str, Any], sees_all: bool):
    with serving(Settings(jwt_secret=SECRET)) as guarded:
        request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": {"name": "bens"}}
        httpx.post(f"{guarded.url}/tasks", json=request, headers=bearer("ben"))
        answer = httpx.post(f"{guarded.url}/tasks", json=CALL, headers=bearer("ann", **more))
        assert answer.json()["result"]["total"] == (1 if sees_all else 0)


def test_a_token_is_never_in_the_log(strict: Served, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    token = with_secret()
    httpx.post(f"{strict.url}/tasks?token={token}", json=CALL, headers={"Authorization": f"Bearer {token}"})
    httpx.post(f"{strict.url}/tasks", json=CALL, headers={"Authorization": f"Bearer {token}x"})
    lines = [
        each.name + each.getMessage()
        for each in caplog.records
        if each.name.startswith(("apflow", "uvicorn.error"))
    ]
    assert lines
    assert not [line for line in lines if token.rpartition(".")[2][:20] in line]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(jwt_secret="short"),
        Settings(jwt_secret=SECRET, jwt_algorithms=("none",)),
        Settings(jwt_secret=SECRET, jwt_algorithms=("RS256",)),
        Settings(jwks_url="http://127.0.0.1:9/", jwt_algorithms=("HS256",)),
    ],
    ids=["short secret", "none", "no keys for RS256", "no secret for HS256"],
)
def test_settings_that_would_not_protect_refuse_to_start(settings: Settings):
    with pytest.raises(SettingsError):
        create_app(settings, db=MemoryStore())
    with pytest.raises(SettingsError):
        TokenCheck(settings)
