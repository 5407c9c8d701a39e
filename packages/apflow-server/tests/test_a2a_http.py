"""A2A over HTTP: media types, limits, versions, and the card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client.card_resolver import parse_agent_card
from a2a.utils.signing import create_signature_verifier
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from serving import SECRET, Served, bearer, serving

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.app import create_app

CARD = "/.well-known/agent-card.json"
VERSIONED = {"A2A-Version": "1.0"}
PATHS = ["/", "/a2a", "/a2a/"]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def rpc(http: httpx.Client, method: str, params: Any, path: str = "/", **headers: str) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return http.post(path, json=call, headers=headers).json()


def health(path_metadata: str = "system.health") -> dict[str, Any]:
    return {
        "message": {
            "messageId": "m",
            "role": "ROLE_USER",
            "parts": [{"data": {}}],
            "metadata": {"method": path_metadata},
        }
    }


@pytest.mark.parametrize("path", PATHS)
def test_json_rpc_answers_with_and_without_a_slash(http: httpx.Client, path: str):
    answer = rpc(http, "SendMessage", health(), path, **VERSIONED)
    assert answer["result"]["message"]["parts"][0]["data"]["status"] == "healthy"


def test_a_method_of_version_1_needs_no_version_header(http: httpx.Client):
    assert "result" in rpc(http, "SendMessage", health())
    assert "tasks" in http.get("/v1/tasks").json()


def test_an_unknown_version_is_refused(http: httpx.Client):
    answer = rpc(http, "SendMessage", health(), **{"A2A-Version": "99.0"})
    assert answer["error"]["code"] == -32009
    assert http.get("/v1/tasks", headers={"A2A-Version": "99.0"}).status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_content_type_has_its_error(http: httpx.Client, path: str):
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": health()})
    answer = http.post(path, content=call, headers={"Content-Type": "text/plain", **VERSIONED})
    assert answer.json()["error"]["code"] == -32005
    answer = http.post("/v1/message:send", content=call, headers={"Content-Type": "text/plain", **VERSIONED})
    assert answer.status_code == 400  # of version 1.0.1; 415 in 1.0.0
    assert answer.json()["error"]["details"][0]["reason"] == "CONTENT_TYPE_NOT_SUPPORTED"


@pytest.mark.parametrize("kind", ["application/json", "application/a2a+json; charset=utf-8"])
def test_http_json_takes_both_media_types(http: httpx.Client, kind: str):
    answer = http.post(
        "/v1/message:send", content=json.dumps(health()), headers={"Content-Type": kind, **VERSIONED}
    )
    assert answer.json()["message"]["role"] == "ROLE_AGENT"
    assert answer.headers["content-type"].startswith("application/a2a+json")


def test_invalid_parameters_have_the_same_code_in_both_versions(http: httpx.Client):
    assert rpc(http, "SendMessage", {}, **VERSIONED)["error"]["code"] == -32602
    assert rpc(http, "message/send", {})["error"]["code"] == -32602
    assert rpc(http, "tasks/get", {"id": 7})["error"]["code"] == -32602
    assert rpc(http, "tasks/get", {"id": "none"})["error"]["code"] == -32001


def test_what_is_not_json_is_a_parse_error(http: httpx.Client):
    answer = http.post("/", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["code"] == -32700


def test_deep_and_large_requests_are_refused(served: Served, http: httpx.Client):
    deep = ("[" * 5000 + "]" * 5000).encode()
    answer = http.post("/", content=deep, headers={"Content-Type": "application/json"})
    assert answer.json()["error"]["code"] in (-32600, -32700)
    assert (
        http.post("/v1/message:send", content=deep, headers={"Content-Type": "application/json"}).status_code
        == 400
    )
    with serving(Settings(max_request_bytes=1000)) as small, httpx.Client(base_url=small.url) as client:
        for path in ("/", "/v1/message:send"):
            answer = client.post(path, content=b" " * 2000, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413


def test_an_extension_is_activated(http: httpx.Client):
    wanted = "urn:apflow:a2a:progress:v1, https://example.com/other"
    answer = http.get("/v1/tasks", headers={"A2A-Extensions": wanted, **VERSIONED})
    assert answer.headers["a2a-extensions"] == "urn:apflow:a2a:progress:v1"


def test_routes_after_a2a_still_answer(http: httpx.Client):
    assert http.get("/health").status_code == 200
    assert http.get("/v1/nothing/here").status_code == 404
    assert http.post("/tasks", json={"jsonrpc": "2.0", "id": 1, "method": "system.health"}).status_code == 200


def test_a_tenant_has_its_own_paths(http: httpx.Client):
    assert http.get("/v1/acme/tasks", headers=VERSIONED).json()["tasks"] == []
    request = health()
    request["message"]["parts"] = [{"data": {"tasks": [{"name": "nothing"}]}}]
    request["message"]["metadata"] = {}
    made = http.post("/v1/acme/message:send", json=request, headers=VERSIONED).json()["task"]
    assert [each["id"] for each in http.get("/v1/acme/tasks", headers=VERSIONED).json()["tasks"]] == [
        made["id"]
    ]
    assert http.get(f"/v1/acme/tasks/{made['id']}", headers=VERSIONED).status_code == 200
    assert http.get(f"/v1/other/tasks/{made['id']}", headers=VERSIONED).status_code == 404


@pytest.mark.parametrize("path", [CARD, "/.well-known/agent-card", "/.well-known/agent.json"])
def test_the_card_names_interfaces_and_skills(served: Served, http: httpx.Client, path: str):
    body = http.get(path).json()
    assert {(each["protocolBinding"], each["protocolVersion"]) for each in body["supportedInterfaces"]} == {
        ("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "0.3"),
    }  # fmt: skip
    assert {each["url"] for each in body["supportedInterfaces"]} == {served.url, f"{served.url}/v1"}
    assert {"tasks", "system", "config"} <= {each["id"] for each in body["skills"]}
    assert all(each["examples"] for each in body["skills"])
    assert "securitySchemes" not in body


def test_the_card_may_be_kept(http: httpx.Client):
    answer = http.get(CARD)
    assert answer.headers["cache-control"].startswith("public, max-age=")
    tag, changed = answer.headers["etag"], answer.headers["last-modified"]
    assert http.get(CARD, headers={"If-None-Match": tag}).status_code == 304
    assert http.get(CARD, headers={"If-Modified-Since": changed}).status_code == 304
    assert (
        http.get(CARD, headers={"If-None-Match": '"other"', "If-Modified-Since": changed}).status_code == 200
    )


def test_the_card_does_not_repeat_the_host_that_the_client_names():
    with serving(Settings(jwt_secret=SECRET)) as found, httpx.Client(base_url=found.url) as client:
        text = client.get(CARD, headers={"Host": "evil.example"}).text
        assert "evil.example" not in text
        assert '"Bearer"' in text


def test_version_03_can_be_left_out_of_the_card():
    with serving(Settings(a2a_legacy=False)) as found, httpx.Client(base_url=found.url) as client:
        body = client.get(CARD).json()
        assert {each["protocolVersion"] for each in body["supportedInterfaces"]} == {"1.0"}
        assert "url" not in body
        assert "protocolVersion" not in body


def test_the_public_url_is_in_the_card():
    settings = Settings(public_url="https://flows.example/api/")
    with serving(settings) as found, httpx.Client(base_url=found.url) as client:
        urls = {each["url"] for each in client.get(CARD).json()["supportedInterfaces"]}
        assert urls == {"https://flows.example/api", "https://flows.example/api/v1"}


def test_executors_of_the_machine_are_in_the_extended_card_only():
    with serving(Settings(jwt_secret=SECRET)) as found, httpx.Client(base_url=found.url) as client:
        public = {each["id"] for each in client.get(CARD).json()["skills"]}
        assert client.get("/v1/extendedAgentCard", headers=VERSIONED).status_code == 401
        answer = client.get("/v1/extendedAgentCard", headers={**VERSIONED, **bearer("ann")})
        extended = {each["id"] for each in answer.json()["skills"]}
        assert "command_executor" in extended - public
        assert public < extended


def test_a_card_is_signed(tmp_path: Path):
    key = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "card.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    settings = Settings(a2a_card_key=str(file), a2a_card_key_id="k1")
    with serving(settings) as found, httpx.Client(base_url=found.url) as client:
        first, second = client.get(CARD), client.get(CARD)
        assert first.headers["etag"] == second.headers["etag"]
        card = parse_agent_card(first.json())
        create_signature_verifier(lambda kid, _: public if kid == "k1" else b"", ["ES256"])(card)


def test_grpc_for_other_machines_needs_tokens():
    with pytest.raises(SettingsError, match="authentication is off"):
        create_app(Settings(a2a_grpc_bind="0.0.0.0:8001"), db=MemoryStore())
    with pytest.raises(SettingsError, match="APFLOW_A2A_GRPC_BIND"):
        create_app(Settings(a2a_grpc_bind="8001"), db=MemoryStore())


def test_a_key_that_cannot_sign_is_refused_at_the_start(tmp_path: Path):
    file = tmp_path / "key.pem"
    with pytest.raises(SettingsError, match="cannot be read"):
        create_app(Settings(a2a_card_key=str(file)), db=MemoryStore())
    file.write_text("nothing")
    with pytest.raises(SettingsError, match="not an unencrypted private key"):
        create_app(Settings(a2a_card_key=str(file)), db=MemoryStore())
