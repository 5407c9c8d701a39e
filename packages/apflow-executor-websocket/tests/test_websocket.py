import json
from typing import Any

import pytest
from peers.limits import exceeding
from peers.websocket import TOKEN, WebSocketPeer

from apflow.core.net.connect import AddressRefusedError
from apflow.executor.websocket import (
    WebSocketExecutor,
    WebSocketHandshakeError,
    WebSocketInputError,
    WebSocketTimeoutError,
    WebSocketTlsError,
    WebSocketUnmatchedError,
)


async def run(url: str, **inputs: Any) -> dict[str, Any]:
    return await WebSocketExecutor().execute({"url": url, **inputs})


async def test_a_text_is_sent_as_it_is_and_its_reply_returned(peer: WebSocketPeer):
    assert await run(peer.url("/echo"), message="hello, 世界") == {
        "success": True,
        "url": peer.url("/echo"),
        "message_sent": "hello, 世界",
        "response": "hello, 世界",
        "responses": ["hello, 世界"],
    }


@pytest.mark.parametrize("message", [{"a": [1, None]}, [1, "é"], 3, 0.5, True, "", {"base64": 3, "x": 1}])
async def test_what_is_no_text_is_sent_as_json_and_json_comes_back_parsed(peer: WebSocketPeer, message: Any):
    result = await run(peer.url("/json"), message=message)
    heard = result["response"]["heard"]
    assert (heard if isinstance(message, str) else json.loads(heard)) == message
    assert result["message_sent"] == message
    assert (await run(peer.url("/echo"), message=message))["response"] == message


async def test_bytes_are_sent_and_received_as_base64(peer: WebSocketPeer):
    message = {"base64": "AP8BAg=="}
    assert (await run(peer.url("/json"), message=message))["response"] == {"heard": message}
    assert (await run(peer.url("/echo"), message=message))["response"] == message


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("12", 12),
        ("null", None),
        ('"a"', "a"),
        ("{broken", "{broken"),
        ("NaN", "NaN"),
        ("[" * 70 + "]" * 70, "[" * 70 + "]" * 70),
        ("[" * 9000 + "]" * 9000, "[" * 9000 + "]" * 9000),
    ],
)
async def test_a_reply_that_is_no_usable_json_is_text(peer: WebSocketPeer, text: str, reply: Any):
    assert (await run(peer.url("/echo"), message=text))["response"] == reply


async def test_nothing_need_be_sent(peer: WebSocketPeer):
    result = await run(peer.url("/greet"))
    assert (result["message_sent"], result["response"]) == (None, "welcome")


async def test_several_messages_are_sent_and_several_replies_awaited(peer: WebSocketPeer):
    messages = ["a", {"b": 1}, {"base64": "AA=="}]
    result = await run(peer.url("/echo"), messages=messages, response_count=3)
    assert result["message_sent"] == result["responses"] == messages
    assert result["response"] == messages[-1]
    first = await run(peer.url("/several?count=5"), message="go", response_count=2)
    assert first["responses"] == [{"number": 0}, {"number": 1}]


async def test_until_names_the_reply_that_is_waited_for(peer: WebSocketPeer):
    result = await run(peer.url("/progress?steps=10"), message="go", until="status == 'done'")
    assert result["response"] == {"status": "done", "percent": 100}
    assert len(result["responses"]) == 12
    text = await run(peer.url("/progress"), message="go", until="@ == 'starting'")
    assert text["responses"] == ["starting"]


@pytest.mark.parametrize("until", ["missing", "status == 'never'", "''", "`[]`", "`{}`", "`false`", "`null`"])
async def test_until_that_no_reply_makes_true_fails(peer: WebSocketPeer, until: str):
    with pytest.raises(WebSocketUnmatchedError, match="None of the 4 replies"):
        await run(peer.url("/progress"), message="go", until=until, response_count=4)


async def test_until_is_waited_for_as_long_as_the_timeout_says(peer: WebSocketPeer):
    message = "6 replies had come, none of which makes 'missing' true"
    error, _ = await exceeding(
        WebSocketTimeoutError,
        lambda limit: run(peer.url("/progress"), message="go", until="missing", timeout=limit),
        lambda error: message in str(error),
        1,
    )
    assert message in str(error)


async def test_a_reply_that_until_does_not_fit_is_passed_over_and_told_in_the_error(peer: WebSocketPeer):
    inputs = {"message": "go", "until": "contains(status, 'don')"}
    assert (await run(peer.url("/progress"), **inputs))["response"]["percent"] == 100
    with pytest.raises(WebSocketUnmatchedError, match="invalid type"):
        await run(peer.url("/progress"), **inputs, response_count=1)


async def test_without_waiting_the_peer_has_read_everything(peer: WebSocketPeer):
    result = await run(peer.url("/silent"), messages=["a", "b"], wait_response=False)
    assert (result["response"], result["responses"]) == (None, [])
    with pytest.raises(WebSocketTimeoutError, match="no reply was waited for"):
        await run(peer.url("/frozen"), message="a", wait_response=False, timeout=0.3)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_peer_that_answers_before_it_reads_on_does_not_block(peer: WebSocketPeer, waits: bool):
    messages = ["x" * 100_000] * 200
    result = await run(peer.url("/echo"), messages=messages, wait_response=waits, timeout=10)
    assert len(result["responses"]) == (1 if waits else 0)


async def test_headers_reach_the_server(peer: WebSocketPeer):
    await run(peer.url("/auth"), message="a", headers={"Authorization": TOKEN, "X-Mine": "1"})
    assert (peer.headers[-1]["Authorization"], peer.headers[-1]["X-Mine"]) == (TOKEN, "1")


async def test_a_subprotocol_is_agreed_on(peer: WebSocketPeer):
    assert (await run(peer.url("/subprotocol"), message="a", subprotocols=["x", "chat.v2"]))["success"]
    with pytest.raises(WebSocketHandshakeError, match="none of `subprotocols`"):
        await run(peer.url("/subprotocol"), message="a", subprotocols=["x"])
    peer.until_gone("/subprotocol")


async def test_tls_trusts_whom_verify_names(peer: WebSocketPeer):
    url = peer.url("/echo", tls=True)
    assert (await run(url, message="a", verify=str(peer.ca_file)))["response"] == "a"
    assert (await run(url, message="a", verify=False))["response"] == "a"
    for verify in (True, str(peer.other_ca_file)):
        with pytest.raises(WebSocketTlsError, match="`verify`") as caught:
            await run(url, message="a", verify=verify)
        assert caught.value.is_untrusted
    by_address = peer.url("/echo", tls=True, host="127.0.0.1")
    assert (await run(by_address, message="a", verify=str(peer.ca_file)))["response"] == "a"


async def test_a_certificate_of_another_host_is_not_trusted(peer: WebSocketPeer):
    with pytest.raises(WebSocketTlsError, match="mismatch"):
        await run(peer.url("/echo", tls=True, host="127.1"), message="a", verify=str(peer.ca_file))


async def test_tls_where_there_is_none_says_so(peer: WebSocketPeer):
    for port in (peer.port, peer.garbage_port):
        with pytest.raises(WebSocketTlsError, match="ws://"):
            await run(f"wss://localhost:{port}/echo", message="a")


async def test_the_network_policy_decides_who_is_connected_to(
    peer: WebSocketPeer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    before = peer.seen["/echo"]
    with pytest.raises(AddressRefusedError, match="APFLOW_NET_ALLOW"):
        await run(peer.url("/echo"), message="a")
    assert peer.seen["/echo"] == before
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
    assert (await run(peer.url("/echo"), message="a"))["success"]


async def test_a_proxy_of_the_environment_is_not_used(peer: WebSocketPeer, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{peer.mute_port}")
    assert (await run(peer.url("/echo"), message="a"))["success"]


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"message": "a", "messages": ["b"]}, "`message` cannot be given beside"),
        ({"message": {"base64": "no!"}}, r"`message\.base64` is not valid base64"),
        ({"message": {"base64": 3}}, r"`message\.base64` is not valid base64"),
        ({"message": {"base64": "AA==\n"}}, r"`message\.base64` is not valid base64"),
        ({"messages": ["a", {"base64": "é"}]}, r"`messages\[1\]\.base64`"),
        ({"message": "\ud800"}, "lone surrogate"),
        ({"message": {"a": float("nan")}, "until": "a["}, "`until` is not a valid JMESPath expression"),
        ({"until": "("}, "`until` is not a valid JMESPath expression"),
        ({"until": "a" + "[?b" * 900}, "`until` is not a valid JMESPath expression"),
        ({"headers": {"A": "b\r\nC: d"}}, r"`headers\.A` holds a line break"),
        ({"headers": {"A": "b\0"}}, r"`headers\.A`"),
        ({"headers": {"A": "\u010a"}}, r"`headers\.A`"),
        ({"headers": {"A\r\nB": "c"}}, "`headers` holds a name"),
        ({"headers": {"A: B": "c"}}, "`headers` holds a name"),
        ({"headers": {"": "c"}}, "`headers` holds a name"),
        ({"headers": {"HOST": "example.com"}}, r"`headers\.HOST` is set by the handshake"),
        ({"headers": {"Content-Length": "5"}}, "is set by the handshake"),
        ({"headers": {"Sec-WebSocket-Protocol": "a"}}, "use `subprotocols`"),
        ({"subprotocols": ["a", "b\r\nC: d"]}, r"`subprotocols\[1\]`"),
        ({"subprotocols": ["a,b"]}, r"`subprotocols\[0\]`"),
        ({"verify": "/no/such.pem"}, "`verify` names no CA"),
        ({"verify": "a\0"}, "`verify` names no CA"),
        ({"verify": "/etc/passwd"}, "`verify` names no CA"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_connected_to(
    peer: WebSocketPeer, inputs: dict[str, Any], fault: str
):
    before = peer.seen["/echo"]
    with pytest.raises(WebSocketInputError, match=fault):
        await run(peer.url("/echo", tls=True), **inputs)
    assert peer.seen["/echo"] == before
