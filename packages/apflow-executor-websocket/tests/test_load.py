import asyncio
from typing import Any

from peers.leftovers import held, settled
from peers.websocket import WebSocketPeer

from apflow.executor.websocket import WebSocketError, WebSocketExecutor


async def run(url: str, **inputs: Any) -> Any:
    return (await WebSocketExecutor().execute({"url": url, **inputs}))["response"]


async def test_200_at_once_do_not_mix(peer: WebSocketPeer):
    await run(peer.url("/echo"), message="first")
    before = held()[0]
    replies = await asyncio.gather(*(run(peer.url("/echo"), message=number) for number in range(200)))
    assert replies == list(range(200))
    peer.until_gone("/echo")
    assert held()[0] <= before


async def test_1000_in_a_row_leave_nothing(peer: WebSocketPeer):
    await run(peer.url("/echo"), message="first")
    peer.until_gone("/echo")
    before = held()
    for number in range(1000):
        assert await run(peer.url("/echo"), message=number) == number
    await settled(before)


async def test_failures_leave_nothing(peer: WebSocketPeer):
    ways: list[tuple[str, dict[str, Any]]] = [
        (peer.url("/die"), {}),
        (peer.url("/die-in-handshake"), {}),
        (peer.url("/close?code=4000"), {}),
        (peer.url("/auth"), {}),
        (peer.url("/redirect?to=/echo"), {}),
        (peer.url("/huge?bytes=9000"), {"max_output_bytes": 10}),
        (peer.url("/silent"), {"timeout": 0.01}),
        (peer.url("/echo", tls=True), {}),
        (peer.url("/echo").replace("ws:", "wss:"), {}),
        (f"ws://localhost:{peer.mute_port}/", {"timeout": 0.01}),
        (f"wss://localhost:{peer.mute_port}/", {"timeout": 0.01}),
        (f"wss://localhost:{peer.garbage_port}/", {}),
    ]

    async def fail_in_each_way() -> None:
        for url, inputs in ways:
            try:
                await run(url, message="go", **inputs)
            except WebSocketError:
                continue
            raise AssertionError(url)

    await fail_in_each_way()
    peer.until(lambda: not any(peer.open.values()))
    before = held()
    for _ in range(20):
        await fail_in_each_way()
    peer.until(lambda: not any(peer.open.values()))
    await settled(before)
