"""Requests in a version of MCP that the server does not speak: they learn which versions it speaks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from serving import SECRET, Served, bearer, serving
from starlette.datastructures import Headers

from apflow.core.settings import Settings
from apflow.server.mcp.protocol_version import HEADER, refusal, unsupported_version

IS_SECOND = find_spec("mcp_types") is not None  # version 2 of the SDK
TIMEOUT = 60  # seconds: the first request imports the SDK
MODERN = "2026-07-28"
UNKNOWN = "2099-01-01" if IS_SECOND else MODERN


def discover(version: str) -> dict[str, Any]:
    name = "io.modelcontextprotocol"
    meta = {
        f"{name}/protocolVersion": version,
        f"{name}/clientInfo": {"name": "test", "version": "1"},
        f"{name}/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": "d-1", "method": "server/discover", "params": {"_meta": meta}}


def headers_of(version: str) -> dict[str, str]:
    return {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": version,
        "Mcp-Method": "server/discover",
    }


def test_a_version_that_is_not_spoken_is_refused_with_those_that_are(served: Served):
    answer = httpx.post(
        f"{served.url}/mcp", json=discover(UNKNOWN), headers=headers_of(UNKNOWN), timeout=TIMEOUT
    )
    assert answer.status_code == 400
    found = answer.json()
    assert (found["jsonrpc"], found["id"], found["error"]["code"]) == ("2.0", "d-1", -32022)
    assert found["error"]["data"]["requested"] == UNKNOWN
    assert (MODERN if IS_SECOND else "2025-11-25") in found["error"]["data"]["supported"]


@pytest.mark.skipif(IS_SECOND, reason="version 2 of the SDK refuses by itself")
def test_the_error_says_what_to_do(served: Served):
    answer = httpx.post(
        f"{served.url}/mcp", json=discover(MODERN), headers=headers_of(MODERN), timeout=TIMEOUT
    )
    error = answer.json()["error"]
    assert error["message"].startswith(
        f"Unsupported protocol version: {MODERN}. Supported versions: 2024-11-05, "
    )
    assert 'pip install "mcp>=2"' in error["data"]["advice"]


def test_only_callers_with_a_token_are_told_the_versions():
    with serving(Settings(jwt_secret=SECRET)) as found:
        url, headers = f"{found.url}/mcp", headers_of(UNKNOWN)
        assert httpx.post(url, json=discover(UNKNOWN), headers=headers, timeout=TIMEOUT).status_code == 401
        assert (
            httpx.post(url, json=discover(UNKNOWN), headers=headers | bearer(), timeout=TIMEOUT).status_code
            == 400
        )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id": 7}', 7),
        (b'{"id": "a"}', "a"),
        (b'{"id": true}', None),
        (b"[1]", None),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_the_error_has_the_id_of_the_request_if_it_can_be_read(body: bytes, expected: Any):
    assert refusal("v", ["w"], body)["id"] == expected


def test_requests_without_a_version_and_in_a_spoken_one_pass():
    assert unsupported_version(Headers({}), ["a"]) is None
    assert unsupported_version(Headers({HEADER: "a"}), ["a"]) is None
    assert unsupported_version(Headers({HEADER: "b" * 200}), ["a"]) == "b" * 100
