import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest
from peers.limits import exceeding
from peers.websocket import WebSocketPeer

from apflow.core.errors import HostNotFoundError, HostUnreachableError
from apflow.executor.websocket import (
    WebSocketClosedError,
    WebSocketExecutor,
    WebSocketHandshakeError,
    WebSocketRefusedError,
    WebSocketTimeoutError,
    WebSocketTooLargeError,
    WebSocketUnauthorizedError,
    connection,
)


async def run(url: str, **inputs: Any) -> dict[str, Any]:
    return await WebSocketExecutor().execute({"url": url, "message": "go", "timeout": 10, **inputs})


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not claim():
            await asyncio.sleep(0.005)


async def test_nobody_there():
    with pytest.raises(HostUnreachableError):
        await run("ws://127.0.0.1:1/")
    with pytest.raises(HostNotFoundError):
        await run("ws://no-such-host.invalid/")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-key-5f2c"}])
async def test_wrong_credentials(peer: WebSocketPeer, headers: dict[str, str]):
    with pytest.raises(WebSocketUnauthorizedError, match="401 Unauthorized") as caught:
        await run(peer.url("/auth"), headers=headers)
    assert caught.value.status_code == 401
    assert "5f2c" not in str(caught.value)


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
async def test_a_refusal_tells_its_status(peer: WebSocketPeer, code: int):
    with pytest.raises(WebSocketRefusedError, match=str(code)) as caught:
        await run(peer.url(f"/status?code={code}"))
    assert caught.value.status_code == code
    assert type(caught.value) is WebSocketRefusedError


async def test_what_answers_is_no_websocket_server(peer: WebSocketPeer):
    with pytest.raises(WebSocketHandshakeError, match="not from a WebSocket server"):
        await run(f"ws://localhost:{peer.garbage_port}/")
    with pytest.raises(WebSocketHandshakeError, match="no extensions supported"):
        await run(peer.url("/claims-compression"))
    with pytest.raises(WebSocketHandshakeError, match="lost during the handshake"):
        await run(peer.url("/die-in-handshake"))


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_a_peer_that_hangs_in_the_handshake_meets_the_timeout(peer: WebSocketPeer, scheme: str):
    with pytest.raises(WebSocketTimeoutError, match=r"over 0\.2 s; it was still connecting"):
        await run(f"{scheme}://localhost:{peer.mute_port}/", timeout=0.2)
    peer.until_gone("/mute")


@pytest.mark.parametrize("path", ["/silent", "/frozen", "/several?count=1"])
async def test_a_peer_that_hangs_meets_the_timeout(peer: WebSocketPeer, path: str):
    async with asyncio.timeout(30):
        error, limit = await exceeding(
            WebSocketTimeoutError,
            lambda limit: run(peer.url(path), response_count=2, timeout=limit),
            lambda error: "of 2 replies had come" in str(error),
            0.3,
        )
        assert "of 2 replies had come" in str(error)
        assert error.timeout == limit
    peer.until_gone(path.partition("?")[0])


async def test_a_peer_that_answers_no_pings_is_noticed(peer: WebSocketPeer):
    async with asyncio.timeout(30):
        with pytest.raises(WebSocketClosedError, match=r"did not answer a ping within 0\.2 s") as caught:
            await run(peer.url("/frozen"), ping_interval=0.2)
        assert caught.value.code == 1011
    with pytest.raises(WebSocketTimeoutError):
        await run(peer.url("/frozen"), ping_interval=0, timeout=0.5)


async def test_pings_keep_a_slow_peer(peer: WebSocketPeer):
    assert (await run(peer.url("/echo?after=0.5"), ping_interval=0.1))["response"] == "go"


async def test_a_peer_that_dies_in_the_middle(peer: WebSocketPeer):
    for path, count in (("/die", 0), ("/die?say=x", 1)):
        with pytest.raises(WebSocketClosedError, match=f"1006.*{count} of 2 replies") as caught:
            await run(peer.url(path), response_count=2)
        assert (caught.value.code, caught.value.reason) == (1006, "")


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1008, "not today"), (1011, "it's me"), (4321, "é\n")]
)
async def test_a_close_frame_is_told_with_code_and_reason(peer: WebSocketPeer, code: int, reason: str):
    with pytest.raises(WebSocketClosedError, match=str(code)) as caught:
        await run(peer.url(f"/close?say=one&code={code}&reason={quote(reason)}"), response_count=2)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert "1 of 2 replies had come" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_peer_that_says_goodbye_and_stays_is_left(peer: WebSocketPeer):
    async with asyncio.timeout(30):
        with pytest.raises(WebSocketClosedError, match="1000"):
            await run(peer.url("/half-close"))
    peer.until_gone("/half-close")


@pytest.mark.parametrize("path", ["/huge?bytes=5000", "/huge?bytes=5000&stay=1", "/several?count=5000"])
async def test_replies_over_the_limit_fail(peer: WebSocketPeer, path: str):
    with pytest.raises(WebSocketTooLargeError, match="more than 1000 bytes") as caught:
        await run(peer.url(path), max_output_bytes=1000, response_count=5000)
    assert caught.value.limit == 1000
    peer.until_gone(path.partition("?")[0])


async def test_replies_up_to_the_limit_pass(peer: WebSocketPeer):
    assert len((await run(peer.url("/huge?bytes=1000"), max_output_bytes=1000))["response"]) == 1000
    large = await run(peer.url(f"/huge?bytes={4 << 20}"), max_output_bytes=4 << 20)
    assert len(large["response"]) == 4 << 20
    with pytest.raises(WebSocketTooLargeError):
        await run(peer.url("/echo"), message="é" * 501, max_output_bytes=1000)


@pytest.mark.parametrize("path", ["/fragments?bytes=100000", "/fragments?bytes=0", "/fragments?bytes=1"])
async def test_a_message_without_end_is_cut_off(peer: WebSocketPeer, path: str):
    with pytest.raises((WebSocketTooLargeError, WebSocketClosedError)):
        await run(peer.url(path))
    peer.until_gone("/fragments")


async def test_answers_to_pings_do_not_pile_up(peer: WebSocketPeer):
    with pytest.raises(WebSocketClosedError, match="too many pings"):
        await run(peer.url("/pings"), timeout=20)
    peer.until_gone("/pings")


async def test_a_peer_that_never_stops_talking_is_left_when_it_has_said_enough(peer: WebSocketPeer):
    assert len((await run(peer.url("/flood"), response_count=3))["responses"]) == 3
    peer.until_gone("/flood")


async def test_compressed_messages_are_not_unpacked(peer: WebSocketPeer):
    with pytest.raises(WebSocketClosedError, match="broke the protocol"):
        await run(peer.url("/bomb"))
    assert "Sec-WebSocket-Extensions" not in peer.headers[-1]


async def test_a_text_that_is_no_text_breaks_the_protocol(peer: WebSocketPeer):
    with pytest.raises(WebSocketClosedError, match="1007"):
        await run(peer.url("/broken-text"))


@pytest.mark.parametrize("path", ["/silent", "/frozen", "/echo?after=60", "/flood"])
async def test_cancelling_closes_the_connection(peer: WebSocketPeer, path: str):
    name = path.partition("?")[0]
    running = asyncio.create_task(run(peer.url(path), until="never", max_output_bytes=4 << 20))
    await until(lambda: peer.open[name] == 1)
    running.cancel()
    await asyncio.wait([running], timeout=30)
    assert running.cancelled(), "it hangs"
    peer.until_gone(name)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_cancelling_the_handshake_closes_the_connection(peer: WebSocketPeer, scheme: str):
    running = asyncio.create_task(run(f"{scheme}://localhost:{peer.mute_port}/"))
    await until(lambda: peer.open["/mute"] == 1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    peer.until_gone("/mute")


async def test_cancelling_again_while_it_closes_drops_the_connection(
    peer: WebSocketPeer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 600.0)
    executor = WebSocketExecutor()
    inputs = {"url": peer.url("/frozen?first=hello"), "message": "go", "response_count": 2}
    running = asyncio.create_task(executor.execute(inputs))
    await until(lambda: executor._replies is not None and executor._replies.received == ["hello"])
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running], timeout=30)
    assert running.cancelled()
    peer.until_gone("/frozen")


async def test_cancelling_keeps_the_replies_so_far(peer: WebSocketPeer):
    executor = WebSocketExecutor()
    inputs = {"url": peer.url("/several?count=2"), "message": "go", "response_count": 3}
    running = asyncio.create_task(executor.execute(inputs))
    await until(lambda: executor._replies is not None and len(executor._replies.received) == 2)
    partial = (await executor.cancel())["partial_result"]
    assert partial == {"responses": [{"number": 0}, {"number": 1}]}
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await WebSocketExecutor().cancel() == {"status": "cancelled"}
