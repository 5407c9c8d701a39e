import logging
import traceback
from typing import Any

import pytest
from peers.websocket import WebSocketPeer

from apflow.core.errors import ExecutorError
from apflow.executor.websocket import WebSocketExecutor
from apflow.executor.websocket.request import read_request

SECRET = "s3cr3t-9d1f7a"


async def outcome(url: str, **inputs: Any) -> str:
    """Return all that can be seen of a run apart from `message_sent` and the replies."""
    given = {"headers": {"Authorization": f"Bearer {SECRET}"}, "message": SECRET, "timeout": 0.2, **inputs}
    try:
        result = await WebSocketExecutor().execute({"url": url, **given})
    except ExecutorError as error:
        return "".join(traceback.format_exception(error))
    return str(result["url"])


async def test_no_credential_is_in_a_log_or_an_error(
    peer: WebSocketPeer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.DEBUG)
    for name in ("websockets", "websockets.client", "asyncio", "apflow"):
        caplog.set_level(logging.DEBUG, name)
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    query = f"token={SECRET}"
    seen = [
        await outcome(peer.url(f"{path}{'&' if '?' in path else '?'}{query}"), **inputs)
        for path, inputs in (
            ("/echo", {}),
            ("/silent", {}),
            ("/auth", {}),
            ("/die", {}),
            ("/die-in-handshake", {}),
            ("/close?code=1008&reason=no", {}),
            ("/status?code=500", {}),
            ("/redirect?to=/echo", {}),
            ("/huge?bytes=9000", {"max_output_bytes": 10}),
            ("/echo", {"headers": {"Authorization": f"{SECRET}\r\n"}}),
            ("/echo", {"until": "never", "response_count": 1}),
            ("/subprotocol", {"subprotocols": ["x"]}),
        )
    ]
    seen += [
        await outcome(f"ws://u:{SECRET}@localhost:{peer.port}/"),
        await outcome(f"ws://u:{SECRET}@[broken/"),
        await outcome(f"ws://localhost:1/?{query}"),
        await outcome(f"ws://localhost:{peer.garbage_port}/?{query}"),
        await outcome(peer.url(f"/echo?{query}", tls=True)),
    ]
    assert [text for text in seen if SECRET in text] == []
    assert SECRET not in caplog.text


def test_a_request_does_not_show_what_it_holds():
    request = read_request({"url": f"ws://h/p?token={SECRET}", "headers": {"A": SECRET}, "message": SECRET})
    assert repr(request) == "<WebSocketRequest to ws://h/p>"
