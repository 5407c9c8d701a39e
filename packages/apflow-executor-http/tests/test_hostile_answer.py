"""Answers that are made to do harm, or are just odd."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import zlib
from typing import Any

import pytest
from peers.http import HttpPeer

from apflow.core import create_session
from apflow.core.task_executor import TaskExecutor
from apflow.executor.http import RestExecutor, RestInputError, RestResponseError, RestStatusError

SECRET = "s3cret-5f2c81"


async def call(**inputs: Any) -> dict[str, Any]:
    return await RestExecutor().execute({"timeout": 10, **inputs})


def saying(peer: HttpPeer, content: bytes, kind: str, encoding: str = "") -> dict[str, Any]:
    params = {"type": kind} | ({"encoding": encoding} if encoding else {})
    data = {"base64": base64.b64encode(content).decode()}
    return {"url": peer.url("/say"), "params": params, "method": "PUT", "data": data}


async def said(peer: HttpPeer, content: bytes, kind: str = "text/plain", encoding: str = "") -> Any:
    return (await call(**saying(peer, content, kind, encoding)))["body"]


def raw_deflated(content: bytes) -> bytes:
    packed = zlib.compressobj(9, wbits=-15)
    return packed.compress(content) + packed.flush()


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        ("utf-16", "grün".encode("utf-16"), "grün"),
        ("shift_jis", "日本".encode("shift_jis"), "日本"),
        ("windows-1252", b"\x80", "€"),
        ("nobody-knows", "grün".encode(), "grün"),
        ("punycode", b"abc-" + b"99zz" * 500, "abc-" + "99zz" * 500),  # Python's takes quadratic time
        ("unicode_escape", b"\\ud800", "\\ud800"),
        ("utf-7", b"+2AA-", "+2AA-"),
        ("zlib_codec", b"a", "a"),
    ],
)
async def test_a_charset_is_read_where_it_is_one_of_texts(
    peer: HttpPeer, charset: str, content: bytes, text: str
):
    assert await said(peer, content, f"text/plain; charset={charset}") == text


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
async def test_what_is_packed_comes_out_whole(peer: HttpPeer, size: int):
    content = b"x" * size
    for encoding, packed in (
        ("gzip", gzip.compress(content)),
        ("deflate", zlib.compress(content)),
        ("deflate", raw_deflated(content)),
        ("gzip", gzip.compress(content[:7]) + gzip.compress(content[7:])),
        ("gzip", gzip.compress(content) + b"\0" * 20),
        ("deflate, gzip", gzip.compress(zlib.compress(content))),
    ):
        assert await said(peer, packed, encoding=encoding) == content.decode()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_is_packed_and_ends_early_is_told(peer: HttpPeer, encoding: str):
    packed = gzip.compress(b"a text" * 50) if encoding == "gzip" else zlib.compress(b"a text" * 50)
    with pytest.raises(RestResponseError, match="ends early"):
        await said(peer, packed[:-9], encoding=encoding)


async def test_what_is_packed_again_and_again_is_refused(peer: HttpPeer):
    with pytest.raises(RestResponseError, match="packed 200 times"):
        await said(peer, b"", encoding=", ".join(["gzip"] * 200))


async def test_json_that_is_too_deep_for_a_result_stays_text(peer: HttpPeer):
    content = b"[" * 64 + b"]" * 64
    inputs = saying(peer, content, "application/json")
    async with create_session("memory://") as store:
        task = {"name": "rest_executor", "inputs": inputs}
        done = dict(await TaskExecutor().execute_tasks([task], db_session=store))
    assert (done["status"], done["result"]["json"]) == ("completed", None)
    assert done["result"]["body"] == content.decode()


async def test_a_credential_that_the_server_repeats_is_not_told(
    peer: HttpPeer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RestStatusError) as caught:
        await call(url=peer.url("/auth"), auth={"type": "bearer", "token": SECRET})
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)
    key = {"type": "apikey", "in": "query", "name": "k", "api_key": SECRET}
    result = await call(url=peer.url("/redirect"), params={"to": f"/status/200?k={SECRET}"}, auth=key)
    assert SECRET not in str(result["url"])


@pytest.mark.parametrize(
    "given",
    [
        {"auth": {"type": "bearer", "token": f"{SECRET} "}},
        {"auth": {"type": "bearer", "token": f"{SECRET}\x7f"}},
        {"auth": {"type": "apikey", "api_key": f" {SECRET}"}},
        {"auth": {"type": "basic", "username": "a:b", "password": SECRET}},
        {"headers": {"X-Token": f"{SECRET}\x01"}},
        {"headers": {"X-Token": f"{SECRET}\n"}},
        {"headers": {"Host": "another.example"}},
        {"headers": {"Expect": "100-continue"}},
        {"url": f"http://ann:{SECRET}/"},
        {"verify": "a\0b"},
        {"method": "POST", "files": {"f": {"filename": "a", "content": "", "content_type": "a/b\r\nX: y"}}},
    ],
)
async def test_what_cannot_be_sent_is_refused_without_repeating_it(
    peer: HttpPeer, given: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    before = sum(peer.seen.values())
    with pytest.raises(RestInputError) as caught:
        await call(**{"url": peer.url("/echo"), **given})
    assert SECRET not in str(caught.value) + caplog.text
    assert sum(peer.seen.values()) == before


@pytest.mark.parametrize("status", [301, 302, 307])
async def test_a_redirect_never_makes_a_reading_of_a_removal(peer: HttpPeer, status: int):
    params = {"to": "/echo", "status": status}
    assert (await call(url=peer.url("/redirect"), method="DELETE", params=params))["method"] == "DELETE"


async def test_cookies_stay_at_their_origin(peer: HttpPeer):
    same = await call(url=peer.url("/redirect"), params={"to": "/cookie"})
    assert same["json"] == {"cookies": {"hop": "one"}}
    other = await call(url=peer.url("/redirect"), params={"to": peer.url("/cookie", other=True)})
    assert other["json"] == {"cookies": {}}


async def test_a_fragment_is_neither_sent_nor_told(peer: HttpPeer):
    result = await call(url=peer.url("/redirect#here"), params={"to": "/echo#there"})
    assert result["url"] == peer.url("/echo")


async def test_a_host_that_hangs_holds_up_nobody_else(peer: HttpPeer):
    hanging = [asyncio.ensure_future(call(url=peer.url("/hang"))) for _ in range(120)]
    await asyncio.to_thread(peer.until, lambda: peer.waiting["/hang"] == 120)
    async with asyncio.timeout(30):
        await call(url=peer.url("/echo", other=True))
    for each in hanging:
        each.cancel()
    await asyncio.wait(hanging)
    await asyncio.to_thread(peer.until, lambda: not peer.waiting["/hang"])
