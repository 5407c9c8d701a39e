"""The transport: every connection is judged, and TLS still knows whom it talks to."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from peers.http import HttpPeer, http_peer

from apflow.core.errors import AddressRefusedError, HostNotFoundError
from apflow.core.net.policy import NetPolicy
from apflow.http import GuardedTransport, ssl_context

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def peer() -> Iterator[HttpPeer]:
    with http_peer() as running:
        yield running


async def test_what_is_permitted_is_connected_to_and_the_rest_refused(peer: HttpPeer):
    async with httpx.AsyncClient(transport=GuardedTransport(NetPolicy())) as client:
        assert (await client.get(peer.url("/echo"))).json()["method"] == "GET"
    async with httpx.AsyncClient(transport=GuardedTransport(NetPolicy(is_public=True))) as client:
        with pytest.raises(AddressRefusedError):
            await client.get(peer.url("/echo"))
        with pytest.raises(HostNotFoundError):
            await client.get("http://nowhere.invalid/")


async def test_without_a_policy_the_one_that_is_set_counts(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch):
    async with httpx.AsyncClient(transport=GuardedTransport()) as client:
        monkeypatch.setenv("APFLOW_NET_POLICY", "public")
        with pytest.raises(AddressRefusedError):
            await client.get(peer.url("/echo"))


async def test_redirects_are_judged_too(peer: HttpPeer):
    transport = GuardedTransport(NetPolicy())
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:
        with pytest.raises(AddressRefusedError, match="metadata"):
            await client.get(peer.url("/redirect"), params={"to": "http://169.254.169.254/"})


async def test_tls_verifies_the_name_and_not_the_address(peer: HttpPeer):
    async with httpx.AsyncClient(transport=GuardedTransport(verify=str(peer.ca_file))) as client:
        assert (await client.get(peer.url("/echo", tls=True))).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await client.get(peer.url("/echo", tls=True, host="127.0.0.1"))


async def test_proxies_of_the_environment_are_not_used(peer: HttpPeer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with httpx.AsyncClient(transport=GuardedTransport(), trust_env=False) as client:
        assert (await client.get(peer.url("/echo"))).status_code == 200


def test_a_file_without_certificates_is_refused(tmp_path: Path):
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(OSError):
        ssl_context(str(tmp_path / "empty.pem"))
    assert ssl_context(False).verify_mode == ssl.CERT_NONE


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("APFLOW_NET_POLICY", "")
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert "a loopback address" in capsys.readouterr().out
