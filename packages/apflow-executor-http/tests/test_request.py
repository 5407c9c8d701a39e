"""What is sent, and what is refused before anything is."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from peers.http import TOKEN, HttpPeer

from apflow.executor.http import RestExecutor, RestInputError, RestStatusError


async def call(**inputs: Any) -> dict[str, Any]:
    return await RestExecutor().execute({"timeout": 10, **inputs})


async def echoed(peer: HttpPeer, **inputs: Any) -> dict[str, Any]:
    return (await call(url=peer.url("/echo"), **inputs))["json"]


async def test_the_result_has_the_fields_that_are_promised(peer: HttpPeer):
    result = await call(url=peer.url("/echo?a=1"), params={"b": [2, True]})
    assert sorted(result) == [
        "body", "elapsed", "headers", "json", "method", "status_code", "success", "url",
    ]  # fmt: skip
    assert (result["status_code"], result["success"], result["method"]) == (200, True, "GET")
    assert result["url"] == peer.url("/echo?a=1&b=2&b=true")
    assert result["json"]["query"] == [["a", "1"], ["b", "2"], ["b", "true"]]
    assert result["headers"]["content-type"].startswith("application/json")
    assert 0 < result["elapsed"] < 10


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_arrives(peer: HttpPeer, method: str):
    assert (await echoed(peer, method=method))["method"] == method


async def test_a_head_has_no_body(peer: HttpPeer):
    result = await call(url=peer.url("/big?size=100"), method="HEAD")
    assert (result["body"], result["headers"]["content-length"]) == ("", "100")


async def test_bodies_of_every_kind_arrive(peer: HttpPeer):
    assert (await echoed(peer, method="PUT", json={"n": [1, None]}))["json"] == {"n": [1, None]}
    assert (await echoed(peer, method="PUT", data="grün"))["body"] == base64.b64encode(
        "grün".encode()
    ).decode()
    assert (await echoed(peer, method="PUT", data={"base64": "AP8="}))["body"] == "AP8="
    assert (await echoed(peer, method="POST", form={"a": 1, "b": ["x", "y"]}))["form"] == [
        ["a", "1"], ["b", "x"], ["b", "y"],
    ]  # fmt: skip
    files = {
        "one": {"filename": "a.csv", "content": "a,b", "content_type": "text/csv"},
        "two": {"filename": "b", "content_base64": "YmI="},
    }
    sent = (await echoed(peer, method="POST", files=files, form={"note": "hi"}))["form"]
    assert ["note", "hi"] in sent
    assert ["one", {"filename": "a.csv", "type": "text/csv", "content": "a,b"}] in sent
    assert ["two", {"filename": "b", "type": "application/octet-stream", "content": "bb"}] in sent


async def test_null_is_a_json_body_and_none_is_no_body(peer: HttpPeer):
    assert (await echoed(peer, method="PUT", json=None))["body"] == base64.b64encode(b"null").decode()
    assert (await echoed(peer, method="PUT"))["body"] == ""


@pytest.mark.parametrize(
    ("path", "auth"),
    [
        ("/auth", {"type": "bearer", "token": TOKEN}),
        ("/basic", {"type": "basic", "username": "ann", "password": TOKEN}),
        ("/apikey", {"type": "apikey", "api_key": TOKEN}),
        ("/apikey", {"type": "apikey", "api_key": TOKEN, "in": "query", "name": "key"}),
    ],
)
async def test_a_credential_of_every_type_is_accepted_and_not_told(
    peer: HttpPeer, path: str, auth: dict[str, str]
):
    result = await call(url=peer.url(path), auth=auth)
    assert result["json"] == {"ok": True}
    assert TOKEN not in str(result)
    with pytest.raises(RestStatusError) as caught:
        await call(
            url=peer.url(path),
            auth={
                **auth,
                **{name: "wrong-credential" for name in ("token", "password", "api_key") if name in auth},
            },
        )
    assert caught.value.status_code in (401, 403)


async def test_the_idempotency_key_goes_with_what_is_not_safe_to_repeat(peer: HttpPeer):
    executor = RestExecutor()
    executor.idempotency_key = "task:0"
    for method, sent in (("POST", "task:0"), ("PATCH", "task:0"), ("PUT", None), ("GET", None)):
        result = await executor.execute({"url": peer.url("/echo"), "method": method})
        assert result["json"]["headers"].get("idempotency-key") == sent
    own = {"url": peer.url("/echo"), "method": "POST", "headers": {"idempotency-key": "mine"}}
    assert (await executor.execute(own))["json"]["headers"]["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    "given",
    [
        {"url": "ftp://example.com/"},
        {"url": "file:///etc/passwd"},
        {"url": "example.com"},
        {"url": "http://"},
        {"url": "http://[::1/"},
        {"url": "http://ann:secret@example.com/"},
        {"url": "http://example.com/\r\nX: y"},
        {"url": "http://example.com\\@127.0.0.1/"},
        {"url": "http://example.com:99999/"},
        {"url": "http://a/", "headers": {"X": "a\r\nY: b"}},
        {"url": "http://a/", "headers": {"X y": "a"}},
        {"url": "http://a/", "headers": {"": "a"}},
        {"url": "http://a/", "headers": {"Content-Length": "3"}},
        {"url": "http://a/", "headers": {"X": "日本"}},
        {"url": "http://a/", "json": 1, "data": "x"},
        {"url": "http://a/", "data": {"base64": "?"}},
        {"url": "http://a/", "files": {"f": {"filename": "a"}}},
        {"url": "http://a/", "files": {"f": {"filename": "a", "content": "a", "content_base64": "YQ=="}}},
        {"url": "http://a/", "auth": {"type": "basic", "username": "a"}},
        {"url": "http://a/", "auth": {"type": "bearer", "api_key": "a", "token": "b"}},
        {"url": "http://a/", "auth": {"type": "bearer", "token": "a\nb"}},
        {"url": "https://a/", "verify": "/no/such/file"},
    ],
)
async def test_what_is_no_request_is_refused_before_anything_is_sent(given: dict[str, Any]):
    with pytest.raises(RestInputError) as caught:
        await call(**given)
    assert "secret" not in str(caught.value)
