import pytest
from peers.websocket import WebSocketPeer

from apflow.core.errors import AddressRefusedError, HostNotFoundError
from apflow.executor.websocket import WebSocketExecutor, WebSocketInputError, WebSocketRedirectedError
from apflow.executor.websocket.address import masked_url, read_address

LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    "127.255.255.254", "localhost", "LOCALHOST", "localhost.", "0.0.0.0", "0", "[::1]", "[::]",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]", "[::127.0.0.1]", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021",
    "\u246b\u2466.0.0.1",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1", "100.64.0.1", "192.0.2.1",
    "198.18.0.1", "224.0.0.1", "255.255.255.255", "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]",
    "[2001:db8::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[2002:c0a8:101::]", "167772161", "0xa000001",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "[2002:a9fe:a9fe::]",
]  # fmt: skip
BROKEN = [
    "", "ws:", "ws://", "ws:///path", "//host/", "host", "ws:host", "http://host/", "https://host/",
    "file:///etc", "wsx://host/", "ws+unix://host/", "unix:///run/x", "javascript:1", "ws://user@host/",
    "ws://user:pw@host/", "ws://@host/", "ws://:@host/", "ws://user:pw@127.0.0.1/",
    "ws://public.example\\@127.0.0.1/", "ws://public.example\\.127.0.0.1/", "ws://host/#fragment",
    "ws://host:0/", "ws://host:65536/", "ws://host:-1/", "ws://host:http/", "ws://host:80:80/",
    "ws://[::1/", "ws://::1/", "ws://[fe80::1%25eth0]/", "ws://[::1]x/", "ws://x[::1]/", "ws://[::1]x:80/",
    "ws://[host]/", "ws://ho st/", "ws://host/a b", " ws://host/", "ws://host/ ", "ws://ho\nst/",
    "w\ts://host/", "ws://host/\r\nX: y", "ws://host\r\nX: y/", "ws://host/\0", "ws://ho\0st/",
    "ws://ho%73t/", "ws://%31%32%37.0.0.1/", "ws://a..b/", "ws://.host/", "ws://*/", "ws://$(id)/",
    "ws://ho,st/", "ws://<host>/", "ws://host\x7f/", f"ws://{'a' * 64}.example/", "ws://\u2100.example@x/",
]  # fmt: skip


@pytest.mark.parametrize("url", BROKEN)
async def test_what_is_no_usable_url_is_refused_without_being_repeated(url: str):
    with pytest.raises(WebSocketInputError, match="`url`") as caught:
        await WebSocketExecutor().execute({"url": url})
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("host", [*LOOPBACK, *PRIVATE, *METADATA])
async def test_no_notation_leads_past_the_policy(
    host: str, peer: WebSocketPeer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    before = sum(peer.seen.values())
    with pytest.raises((AddressRefusedError, HostNotFoundError, WebSocketInputError)):
        await WebSocketExecutor().execute({"url": f"ws://{host}:{peer.port}/echo", "timeout": 5})
    assert sum(peer.seen.values()) == before


@pytest.mark.parametrize("host", METADATA)
async def test_credentials_of_a_cloud_are_out_of_reach_under_any_policy(host: str):
    with pytest.raises(AddressRefusedError, match="metadata"):
        await WebSocketExecutor().execute({"url": f"ws://{host}/latest/meta-data", "timeout": 5})


@pytest.mark.parametrize(
    "to",
    [
        "/echo",
        "ws://169.254.169.254/",
        "http://169.254.169.254/",
        "wss://user:pw@elsewhere.example/?token=pw",
        "http://[broken/",
        "//elsewhere.example/",
    ],
)
async def test_redirects_are_not_followed(peer: WebSocketPeer, to: str):
    before = peer.seen["/echo"]
    with pytest.raises(WebSocketRedirectedError, match="not followed") as caught:
        await WebSocketExecutor().execute({"url": peer.url(f"/redirect?to={to.replace('?', '%3F')}")})
    assert caught.value.status_code == 302
    assert "pw" not in str(caught.value)
    assert peer.seen["/echo"] == before


async def test_where_a_redirect_points_is_told(peer: WebSocketPeer):
    with pytest.raises(WebSocketRedirectedError, match=r"points to wss://elsewhere\.example/path"):
        await WebSocketExecutor().execute({"url": peer.url("/redirect?to=wss://elsewhere.example/path")})


def test_an_address_is_read_in_ascii_and_shown_without_its_query():
    address = read_address("WSS://Bücher.example/a/é?q=ü&token=abc%20d")
    assert address.uri == "wss://xn--bcher-kva.example/a/%C3%A9?q=%C3%BC&token=abc%20d"
    assert (address.host, address.port, address.is_secure) == ("xn--bcher-kva.example", 443, True)
    assert address.shown == "wss://xn--bcher-kva.example/a/%C3%A9"
    assert read_address("ws://[::1]:8080").uri == "ws://[::1]:8080/"


def test_secrets_in_the_query_are_not_shown_in_the_result():
    url = "ws://h/p?a=1&token=t1&API_KEY=t2&access%5Ftoken=t3&token=&token&x=a=b"
    assert masked_url(url) == "ws://h/p?a=1&token=***&API_KEY=***&access%5Ftoken=***&token=&token&x=a=b"
