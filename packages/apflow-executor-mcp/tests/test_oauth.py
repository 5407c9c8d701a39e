"""Access tokens by OAuth 2, from a token endpoint."""

from typing import Any

import pytest
from peers.mcphttp import McpPeer
from peers.mcprunning import run, said

from apflow.executor.mcp import McpAuthError, McpInputError
from apflow.executor.mcp.pool import close_connections


@pytest.fixture(autouse=True)
async def closed(peer: McpPeer):
    peer.tokens.clear()
    peer.grants.clear()
    yield
    await close_connections()


def calling(peer: McpPeer, arguments: dict[str, Any], **auth: str) -> dict[str, Any]:
    return {
        "transport": "http",
        "operation": "call_tool",
        "tool_name": "echo",
        "arguments": arguments,
        "url": peer.url("/oauth"),
        "auth": {"token_url": peer.url("/token"), "client_id": "apflow", **auth},
    }


async def test_client_credentials_are_exchanged_for_one_token(peer: McpPeer):
    for number in range(3):
        inputs = calling(peer, {"a": number}, client_secret="s:crèt", scope="tools read")
        assert said(await run(inputs)) == f'{{"a": {number}}}'
    resource = {"resource": peer.url("/oauth"), "scope": "tools read"}
    assert peer.grants == [{"grant_type": "client_credentials"} | resource]


async def test_a_refresh_token_is_exchanged(peer: McpPeer):
    assert said(await run(calling(peer, {"a": 1}, refresh_token="r-1"))) == '{"a": 1}'
    (grant,) = peer.grants
    assert (grant["grant_type"], grant["refresh_token"], grant["client_id"]) == (
        "refresh_token",
        "r-1",
        "apflow",
    )


async def test_a_token_that_the_server_refuses_is_replaced(peer: McpPeer):
    assert said(await run(calling(peer, {"a": 1}, client_secret="s:crèt"))) == '{"a": 1}'
    peer.tokens.clear()
    assert said(await run(calling(peer, {"a": 2}, client_secret="s:crèt"))) == '{"a": 2}'
    assert len(peer.grants) == 2


async def test_refused_credentials_are_an_error(peer: McpPeer):
    with pytest.raises(McpAuthError, match=r"/token: .* \(HTTP 401: invalid_client, unknown\)") as caught:
        await run(calling(peer, {}, client_secret="wrong-secret"))
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"auth": {"token_url": "ftp://a", "client_id": "a", "client_secret": "b"}}, "`auth.token_url` must"),
        ({"auth": {"token_url": "http://a", "client_id": "a"}}, "`auth` needs a `client_secret`"),
        ({"headers": {"authorization": "x"}}, "`headers.Authorization` cannot be given beside `auth`"),
    ],
)
async def test_credentials_that_cannot_be_used_are_refused(
    peer: McpPeer, changed: dict[str, Any], fault: str
):
    with pytest.raises(McpInputError, match=fault):
        await run(calling(peer, {}, client_secret="s") | changed)
    assert peer.grants == []
