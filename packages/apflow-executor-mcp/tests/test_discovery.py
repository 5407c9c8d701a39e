"""Token endpoints that the server and its authorization server name (RFC 9728, RFC 8414)."""

from typing import Any

import pytest
from peers.mcphttp import McpPeer
from peers.mcprunning import run, said

from apflow.core.errors import AddressRefusedError
from apflow.core.settings import reset_settings
from apflow.executor.mcp import McpDiscoveryError, McpInputError
from apflow.executor.mcp.pool import close_connections

RESOURCE = "/.well-known/oauth-protected-resource"
AUTHORIZATION = "/.well-known/oauth-authorization-server"


@pytest.fixture(autouse=True)
async def closed(peer: McpPeer):
    for each in (peer.tokens, peer.grants, peer.documents, peer.asked):
        each.clear()
    peer.challenge = ""
    yield
    await close_connections()


def calling(peer: McpPeer, **auth: str) -> dict[str, Any]:
    call = {"operation": "call_tool", "tool_name": "echo", "arguments": {"a": 1}}
    credentials = {"client_id": "apflow", "client_secret": "s:crèt", **auth}
    return {"transport": "http", "url": peer.url("/oauth"), **call, "auth": credentials}


def described(peer: McpPeer, *, at: str = f"{RESOURCE}/oauth", **more: Any) -> None:
    """Have the peer describe itself, and its authorization server `/as`."""
    peer.documents[at] = {"resource": peer.url("/oauth"), "authorization_servers": [peer.url("/as")]}
    peer.documents[f"{AUTHORIZATION}/as"] = {
        "issuer": peer.url("/as"),
        "token_endpoint": peer.url("/token"),
        **more,
    }


@pytest.mark.parametrize("at", [f"{RESOURCE}/oauth", RESOURCE])
async def test_the_server_names_its_authorization_server(peer: McpPeer, at: str):
    described(peer, at=at)
    for _ in range(2):
        assert said(await run(calling(peer))) == '{"a": 1}'
    assert peer.grants == [{"grant_type": "client_credentials", "resource": peer.url("/oauth")}]
    assert peer.asked.count(at) == 1


async def test_the_challenge_says_where_the_metadata_is_and_which_scope_is_needed(peer: McpPeer):
    described(peer, at="/elsewhere")
    peer.challenge = (
        f'Bearer error="invalid_token", resource_metadata="{peer.url("/elsewhere")}", scope="a b"'
    )
    await run(calling(peer))
    assert [each["scope"] for each in peer.grants] == ["a b"]
    assert not any(each.startswith(RESOURCE) for each in peer.asked)


async def test_openid_servers_describe_themselves_elsewhere(peer: McpPeer):
    described(peer)
    document = peer.documents.pop(f"{AUTHORIZATION}/as")
    peer.documents["/as/.well-known/openid-configuration"] = document
    assert said(await run(calling(peer))) == '{"a": 1}'


async def test_a_server_without_metadata_is_its_own_authorization_server(peer: McpPeer):
    issuer = peer.url("")
    peer.documents[AUTHORIZATION] = {"issuer": issuer, "token_endpoint": peer.url("/token")}
    assert said(await run(calling(peer))) == '{"a": 1}'


async def test_the_secret_is_sent_in_the_body_where_only_that_is_accepted(peer: McpPeer):
    described(peer, token_endpoint_auth_methods_supported=["client_secret_post"])
    await run(calling(peer))
    assert [each["client_secret"] for each in peer.grants] == ["s:crèt"]


async def test_the_issuer_of_the_credentials_is_used_among_several(peer: McpPeer):
    described(peer)
    peer.documents[f"{RESOURCE}/oauth"]["authorization_servers"].insert(0, peer.url("/evil"))
    peer.documents[f"{AUTHORIZATION}/evil"] = {
        "issuer": peer.url("/evil"),
        "token_endpoint": peer.url("/stolen"),
    }
    assert said(await run(calling(peer, issuer=peer.url("/as")))) == '{"a": 1}'
    assert f"{AUTHORIZATION}/evil" not in peer.asked


@pytest.mark.parametrize(
    ("path", "changed", "fault"),
    [
        (f"{RESOURCE}/oauth", {"resource": "http://other.example/oauth"}, "is of the resource"),
        (f"{RESOURCE}/oauth", {"resource": None}, "is of the resource"),
        (
            f"{RESOURCE}/oauth",
            {"authorization_servers": ["http://127.0.0.1:1/as"]},
            "does not name the issuer",
        ),
        (f"{RESOURCE}/oauth", {"authorization_servers": ["file:///etc/passwd"]}, "does not name the issuer"),
        (f"{AUTHORIZATION}/as", {"issuer": "http://other.example"}, "is of 'http://other.example'"),
        (f"{AUTHORIZATION}/as", {"token_endpoint": "file:///etc/passwd"}, "is not an https:// URL"),
        (f"{AUTHORIZATION}/as", {"token_endpoint": None}, "is not an https:// URL"),
    ],
)
async def test_what_speaks_for_something_else_gets_no_credentials(
    peer: McpPeer, path: str, changed: dict[str, Any], fault: str
):
    described(peer)
    peer.documents[path] |= changed
    with pytest.raises(McpDiscoveryError, match=fault):
        await run(calling(peer, issuer=peer.url("/as")))
    assert peer.grants == []


async def test_nothing_is_found(peer: McpPeer):
    with pytest.raises(McpDiscoveryError, match=r"no metadata .* Give it as `auth\.token_url`"):
        await run(calling(peer))


async def test_the_network_policy_holds_for_what_is_discovered(
    peer: McpPeer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
    reset_settings()
    described(peer)
    for path, name in (
        (f"{RESOURCE}/oauth", "authorization_servers"),
        (f"{AUTHORIZATION}/as", "token_endpoint"),
    ):
        before = peer.documents[path][name]
        inside = f"http://127.0.0.2:{peer.port}/as"
        peer.documents[path] |= {name: [inside] if isinstance(before, list) else inside}
        with pytest.raises(AddressRefusedError):
            await run(calling(peer))
        peer.documents[path] |= {name: before}
    assert said(await run(calling(peer))) == '{"a": 1}'
    assert len(peer.grants) == 1


async def test_an_issuer_beside_a_token_endpoint_is_refused(peer: McpPeer):
    with pytest.raises(McpInputError, match=r"`auth\.issuer` is for discovery"):
        await run(calling(peer, issuer=peer.url("/as"), token_url=peer.url("/token")))
