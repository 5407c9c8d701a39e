"""The endpoint `/mcp` by raw requests: who is answered, and what sessions leave behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from serving import SECRET, Served, bearer, serving, wait_for

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.server.app import create_app

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
SESSIONS = 200
MAX_BLOCKS = 40  # of memory that one closed session may leave; an open one has hundreds
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.mark.parametrize("tools", [("tasks_gt",), ("defaults",)])
def test_tools_that_do_not_exist_are_refused_at_the_start(tools: tuple[str, ...]):
    with pytest.raises(SettingsError, match=r"APFLOW_MCP_TOOLS.*Did you mean"):
        create_app(Settings(mcp_tools=tools))


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_the_endpoint_answers_without_a_redirect(served: Served, path: str):
    answer = httpx.post(f"{served.url}{path}", json=INITIALIZE, headers=ACCEPT)
    assert (answer.status_code, answer.history) == (200, [])
    assert "serverInfo" in answer.text


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": "evil.example:80"}]
)
def test_a_foreign_name_or_page_is_refused(served: Served, headers: dict[str, str]):
    answer = httpx.post(f"{served.url}/mcp", json=INITIALIZE, headers=ACCEPT | headers)
    assert answer.status_code == 403
    assert "serverInfo" not in answer.text


def test_names_and_pages_are_checked_with_tokens_too():
    settings = Settings(jwt_secret=SECRET, public_url="https://flow.example")
    with serving(settings) as found:
        for headers, status in (
            ({}, 200),
            ({"Host": "flow.example"}, 200),
            ({"Host": "flow.example", "Origin": "https://flow.example"}, 200),
            ({"Host": "evil.example"}, 403),
            ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
            ({"Origin": "http://evil.example"}, 403),
        ):
            given = ACCEPT | bearer() | headers
            assert httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=given).status_code == status


def test_a_caller_without_a_token_learns_where_the_issuer_is():
    settings = Settings(
        jwt_secret=SECRET, public_url="https://flow.example/x", jwt_issuer="https://issuer.example"
    )
    with serving(settings) as found:
        refused = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert refused.status_code == 401
        where = "https://flow.example/x/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{where}"' in refused.headers["www-authenticate"]
        for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
            metadata = httpx.get(f"{found.url}{path}").json()
            assert metadata["resource"] == "https://flow.example/x/mcp"
            assert metadata["authorization_servers"] == ["https://issuer.example"]


def test_without_tokens_there_is_no_metadata(http: httpx.Client):
    assert http.get("/.well-known/oauth-protected-resource").status_code == 404


def test_a_session_is_for_the_user_that_has_opened_it(guarded: Served):
    opened = httpx.post(f"{guarded.url}/mcp", json=INITIALIZE, headers=ACCEPT | bearer("ann"))
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    statuses = [
        httpx.post(f"{guarded.url}/mcp", json=request, headers=ACCEPT | session | given).status_code
        for given in (bearer("ann"), bearer("ben"), {})
    ]
    assert statuses == [200, 404, 401]


def test_the_server_ends_while_a_client_listens():
    with serving() as found:
        client = httpx.Client(base_url=found.url, timeout=20)
        opened = client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        with client.stream("GET", "/mcp", headers=ACCEPT | session) as stream:
            assert stream.status_code == 200
            wait_for(lambda: found.app.state.streams.open["mcp"] == 1)
            found.app.state.drain.end()
            with pytest.raises(httpx.TransportError):  # the stream is cut off, not ended
                stream.read()
        client.close()
        wait_for(lambda: found.app.state.streams.open["mcp"] == 0)


def test_sessions_leave_nothing_behind(served: Served):
    with httpx.Client(base_url=served.url, timeout=60) as client:
        for _ in range(20):
            open_and_close(client)
        before = descriptors(), threading.active_count(), tasks(), children()
        blocks = allocated()
        for _ in range(SESSIONS):
            open_and_close(client)
        after = descriptors(), threading.active_count(), tasks(), children()
        wait_for(lambda: (allocated() - blocks) / SESSIONS < MAX_BLOCKS)
    assert all(now <= then + 2 for now, then in zip(after, before, strict=True)), (before, after)


def open_and_close(client: httpx.Client) -> None:
    opened = client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert client.post("/mcp", json=call, headers=ACCEPT | session).status_code == 200
    assert client.delete("/mcp", headers=ACCEPT | session).status_code == 200


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def children() -> int:
    """Return how many processes the threads of this process have started."""
    return sum(len(each.read_text().split()) for each in Path("/proc/self/task").glob("*/children"))


def allocated() -> int:
    """Return how many blocks of memory are allocated."""
    gc.collect()
    return sys.getallocatedblocks()


def tasks() -> int:
    """Return how many asyncio tasks there are, those of the server included."""
    found = [each for each in gc.get_objects() if type(each) is asyncio.Task]  # a proxy's class may be gone
    return sum(not each.done() for each in found)


def test_a_server_without_the_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "apflow.server.mcp.sdk", raising=False)
    with serving() as found:
        answer = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert answer.status_code == 501
        assert "apflow-server[mcp]" in answer.json()["error"]["message"]


def test_the_sdk_is_imported_with_the_first_request_only():
    program = (
        "import sys; from apflow.server.app import create_app; from apflow.core import MemoryStore; "
        "create_app(db=MemoryStore()); sys.exit('mcp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_sessions_there_is_no_id_of_one():
    with serving(Settings(mcp_sessions=False)) as found:
        opened = httpx.post(f"{found.url}/mcp", json=INITIALIZE, headers=ACCEPT)
        assert opened.status_code == 200
        assert "mcp-session-id" not in opened.headers
