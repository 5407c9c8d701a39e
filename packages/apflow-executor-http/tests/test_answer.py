"""What comes back: in bounds, and what goes wrong told by its name."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any
from urllib.parse import urlencode

import pytest
from peers.http import HttpPeer

from apflow.core.errors import AddressRefusedError, HostNotFoundError
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor
from apflow.executor.http import (
    RestConnectionError,
    RestExecutor,
    RestRedirectError,
    RestResponseError,
    RestStatusError,
    RestTimeoutError,
    RestTlsError,
)


async def call(**inputs: Any) -> dict[str, Any]:
    return await RestExecutor().execute({"timeout": 10, **inputs})


@pytest.mark.parametrize(("expected", "status"), [(404, 404), ([200, 503], 503), ([204], 204)])
async def test_a_status_that_is_expected_is_a_success(peer: HttpPeer, expected: Any, status: int):
    result = await call(url=peer.url(f"/status/{status}"), expect_status=expected)
    assert (result["status_code"], result["success"]) == (status, True)


@pytest.mark.parametrize(("expected", "status"), [(None, 404), (None, 500), (None, 304), (404, 200)])
async def test_any_other_fails_and_tells_what_was_said(peer: HttpPeer, expected: Any, status: int):
    more = {} if expected is None else {"expect_status": expected}
    with pytest.raises(RestStatusError, match=str(status)) as caught:
        await call(url=peer.url(f"/status/{status}?say=no-way"), **more)
    assert status == 304 or "no-way" in str(caught.value)


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw-deflate"])
async def test_a_packed_body_is_unpacked(peer: HttpPeer, kind: str):
    assert (await call(url=peer.url(f"/packed/{kind}")))["json"] == {"packed": True}


@pytest.mark.parametrize("kind", ["br", "broken"])
async def test_a_body_that_cannot_be_unpacked_is_told(peer: HttpPeer, kind: str):
    with pytest.raises(RestResponseError):
        await call(url=peer.url(f"/packed/{kind}"))


@pytest.mark.parametrize("kind", ["gzip", "deflate", "twice"])
async def test_a_bomb_is_stopped_before_it_unpacks(peer: HttpPeer, kind: str):
    tracemalloc.start()
    try:
        result = await call(url=peer.url(f"/bomb/{kind}"), max_response_bytes=1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result["body"].endswith("[cut here: more than 1000 bytes]")
    assert peak < 30 << 20  # the peer's own share, in this process, included


@pytest.mark.parametrize("path", ["/big?size=5000", "/endless"])
async def test_a_large_body_is_cut_and_the_cut_marked(peer: HttpPeer, path: str):
    result = await call(url=peer.url(path), max_response_bytes=100)
    assert len(result["body"]) == 100 + len("\n[cut here: more than 100 bytes]")
    assert result["json"] is None
    whole = await call(url=peer.url("/big?size=100"), max_response_bytes=100)
    assert whole["body"] == "x" * 100


async def test_a_body_is_read_as_it_says_it_is(peer: HttpPeer):
    assert (await call(url=peer.url("/latin")))["body"] == "grün"
    assert (await call(url=peer.url("/bytes")))["body"] == {"base64": "AP/+"}
    assert (await call(url=peer.url("/empty")))["body"] == ""
    no_json = await call(url=peer.url("/no-json"))
    assert (no_json["json"], no_json["body"]) == (None, "{not json")


async def test_redirects_are_followed_unless_told_otherwise(peer: HttpPeer):
    to = peer.url("/echo?x=1")
    result = await call(url=peer.url("/redirect"), params={"to": to})
    assert (result["url"], result["json"]["method"]) == (to, "GET")
    stayed = await call(
        url=peer.url("/redirect"), params={"to": to}, follow_redirects=False, expect_status=302
    )
    assert stayed["headers"]["location"] == to


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (301, "HEAD", "HEAD"),
    ],
)
async def test_a_redirect_makes_of_the_method_what_the_standard_says(
    peer: HttpPeer, status: int, method: str, then: str
):
    body = {} if method == "HEAD" else {"json": {"a": 1}}
    result = await call(
        url=peer.url("/redirect"), params={"to": "/echo", "status": status}, method=method, **body
    )
    assert result["method"] == then
    if then not in ("HEAD",):
        assert result["json"].get("json") == ({"a": 1} if then == method else None)


async def test_credentials_stay_at_their_origin(peer: HttpPeer):
    given: dict[str, Any] = {
        "headers": {"X-Secret-Token": "s3cret-one", "Cookie": "a=s3cret-two", "X-Plain": "stays"},
        "auth": {"type": "apikey", "api_key": "s3cret-three", "name": "Key"},
    }
    at_home = (await call(url=peer.url("/redirect"), params={"to": peer.url("/echo")}, **given))["json"][
        "headers"
    ]
    assert (at_home["key"], at_home["x-secret-token"], at_home["cookie"]) == (
        "s3cret-three",
        "s3cret-one",
        "a=s3cret-two",
    )
    away = (await call(url=peer.url("/redirect"), params={"to": peer.url("/echo", other=True)}, **given))[
        "json"
    ]["headers"]
    assert "s3cret" not in str(away)
    assert away["x-plain"] == "stays"
    bearer = {"auth": {"type": "bearer", "token": "s3cret-four"}}
    away = (await call(url=peer.url("/redirect"), params={"to": peer.url("/echo", other=True)}, **bearer))[
        "json"
    ]
    assert "s3cret" not in str(away)


async def test_a_redirect_that_leads_nowhere_is_told(peer: HttpPeer):
    with pytest.raises(RestRedirectError, match="20"):
        await call(url=peer.url("/loop"))
    for to in ("ftp://example.com/", "http://", "javascript:x", "http://a:b@localhost/"):
        with pytest.raises(RestRedirectError):
            await call(url=peer.url("/redirect"), params={"to": to})


async def test_a_redirect_to_where_nobody_may_connect_is_refused(peer: HttpPeer):
    with pytest.raises(AddressRefusedError, match="metadata"):
        await call(url=peer.url("/redirect"), params={"to": "http://169.254.169.254/latest/meta-data/"})


async def test_no_cookie_passes_from_one_call_to_another(peer: HttpPeer):
    for _ in range(2):
        assert (await call(url=peer.url("/cookie")))["json"] == {"cookies": {}}


async def test_the_policy_is_asked_also_of_connections_that_are_open(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch
):
    await call(url=peer.url("/echo"))
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    with pytest.raises(AddressRefusedError, match="APFLOW_NET_ALLOW"):
        await call(url=peer.url("/echo"))
    monkeypatch.setenv("APFLOW_NET_ALLOW", "localhost")
    await call(url=peer.url("/echo"))


async def test_a_peer_that_is_absent_hangs_or_dies_is_told(peer: HttpPeer):
    with pytest.raises(RestConnectionError, match="Check that the server runs"):
        await call(url="http://127.0.0.1:1/")
    with pytest.raises(HostNotFoundError):
        await call(url="http://nowhere.invalid/")
    with pytest.raises(RestConnectionError, match="lost"):
        await call(url=peer.url("/die"))
    with pytest.raises(RestResponseError):
        await call(url=f"http://127.0.0.1:{peer.garbage_port}/")
    for url in (peer.url("/hang"), peer.url("/drip"), f"http://127.0.0.1:{peer.mute_port}/"):
        async with asyncio.timeout(30):
            with pytest.raises(RestTimeoutError, match=r"0\.3 s"):
                await call(url=url, timeout=0.3)
    peer.until(lambda: not peer.waiting["/hang"] and not peer.waiting["/drip"])


async def test_tls_is_verified_as_told(peer: HttpPeer):
    assert (await call(url=peer.url("/echo", tls=True), verify=str(peer.ca_file)))["success"]
    assert (await call(url=peer.url("/echo", tls=True), verify=False))["success"]
    with pytest.raises(RestTlsError, match="verify"):
        await call(url=peer.url("/echo", tls=True))
    with pytest.raises(RestTlsError):
        await call(url=peer.url("/echo", tls=True, host="127.0.0.1"), verify=str(peer.ca_file))
    with pytest.raises(RestTlsError):
        await call(url=f"https://127.0.0.1:{peer.port}/echo")


async def test_a_cancelled_call_is_gone_at_once(peer: HttpPeer):
    for path in ("/hang", "/drip"):
        running = asyncio.ensure_future(call(url=peer.url(path)))
        while not peer.waiting[path]:
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.to_thread(peer.until, lambda path=path: not peer.waiting[path])


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json", ""])
@pytest.mark.parametrize("number", ["18446744073709551617", "-9223372036854775809", "9" * 5000, "1e400"])
async def test_a_number_that_cannot_be_kept_fails_the_task_with_its_path(
    peer: HttpPeer, number: str, kind: str
):
    inputs = {
        "url": peer.url(f"/say?{urlencode({'type': kind})}"),
        "method": "POST",
        "data": f'{{"items": [{{"id": 1}}, {{"id": {number}}}]}}',
    }
    async with MemoryStore() as store:
        done = await TaskExecutor().execute_tasks(
            [{"name": "rest_executor", "inputs": inputs}], db_session=store
        )
    assert (done["status"], done["result"]["error_type"]) == ("failed", "ResultNotSerializable")
    assert "result.json.items[1].id is " in done["error"]
    assert done["error"].endswith("A service can send such a number as a string.")


@pytest.mark.parametrize("number", ["18446744073709551615", "-9223372036854775808"])
async def test_an_integer_of_64_bits_is_kept(peer: HttpPeer, number: str):
    result = await call(url=peer.url("/say?type=application/json"), method="POST", data=f"[{number}]")
    assert result["json"] == [int(number)]
