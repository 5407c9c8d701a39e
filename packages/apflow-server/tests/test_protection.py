"""Whom the server talks to, and what every answer carries."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from serving import SECRET, Served, bearer, serving

from apflow.core.errors import SettingsError
from apflow.core.net.connect import net_policy
from apflow.core.settings import Settings
from apflow.server.http.listening import (
    CannotListenError,
    Place,
    check_place,
    listen,
    proxies_of,
    read_place,
)
from apflow.server.http.protection import check_local, rate_key, read_address
from apflow.server.startup_checks import check_settings

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tasks.count"}


def test_with_authentication_executors_reach_the_public_network_only(monkeypatch: pytest.MonkeyPatch):
    with serving(Settings(jwt_secret=SECRET)):
        assert net_policy().is_public
        monkeypatch.setenv("APFLOW_NET_POLICY", "open")
        assert not net_policy().is_public
        monkeypatch.undo()
    with serving():
        assert not net_policy().is_public


@pytest.mark.parametrize("path", ["/health", "/nothing", "/docs", "/openapi.json"])
def test_every_answer_carries_the_headers_of_security(http: httpx.Client, path: str):
    headers = http.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Request-ID"]
    assert "server" not in headers or "uvicorn" in headers["server"]  # `apflow serve` sends none


def test_a_harmless_request_id_comes_back_and_another_is_replaced(http: httpx.Client):
    assert http.get("/health", headers={"X-Request-ID": "abc-1.2:3"}).headers["X-Request-ID"] == "abc-1.2:3"
    for given in ("a b", "x" * 200, "<script>", ""):
        assert http.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.nip.example", "0.0.0.0", "10.0.0.1", "[::2]", "a@b", "", "[::1",
        "evil.example@localhost", "evil.example//localhost", "//localhost", "evil.example\\@localhost",
        "localhost:evil", "localhost:123456", "localhost/", "localhost,evil.example",
    ],
)  # fmt: skip
def test_without_authentication_the_server_answers_to_no_other_name(served: Served, host: str):
    answer = httpx.post(f"{served.url}/tasks", json=CALL, headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, -32003)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "api.localhost", "127.9.9.9", "[::1]:8000"])
def test_it_answers_to_names_of_its_own_machine(served: Served, host: str):
    assert httpx.post(f"{served.url}/tasks", json=CALL, headers={"Host": host}).status_code == 200


def test_a_request_of_another_origin_than_its_host_is_refused(served: Served):
    with httpx.Client(base_url=served.url) as http:
        for origin in ("http://evil.example", "https://localhost:1", "null", "http://[::1", "", "localhost"):
            answer = http.post("/tasks", json=CALL, headers={"Origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, -32003), origin
        assert http.post("/tasks", json=CALL, headers={"Origin": served.url}).status_code == 200
        same = {"Host": "LocalHost:80", "Origin": "http://localhost:80"}
        assert http.post("/tasks", json=CALL, headers=same).status_code == 200


def test_a_path_that_does_not_exist_is_not_found_whatever_the_host(guarded: Served):
    for host in ("[::1", "a@b", ""):
        answer = httpx.post(f"{guarded.url}/nowhere", headers=bearer("ann") | {"Host": host})
        assert answer.status_code == 404, host


@pytest.mark.parametrize(
    "more", [Settings(cors_origins=("http://a.example",)), Settings(public_url="http://a.example")]
)
def test_an_origin_that_is_named_may_call(more: Settings):
    with serving(more) as served:
        named = httpx.post(f"{served.url}/tasks", json=CALL, headers={"Origin": "http://a.example"})
        assert named.status_code == 200
        other = httpx.post(f"{served.url}/tasks", json=CALL, headers={"Origin": "http://b.example"})
        assert other.status_code == 403


def test_with_authentication_the_token_decides_and_without_on_purpose_pages_are_still_refused(
    guarded: Served,
):
    page = {"Origin": "http://evil.example"}
    assert httpx.post(f"{guarded.url}/tasks", json=CALL, headers=page | bearer()).status_code == 200
    with serving(Settings(insecure=True)) as served:
        assert httpx.post(f"{served.url}/tasks", json=CALL, headers=page).status_code == 403


def test_its_public_name_is_one_of_its_own():
    with serving(Settings(public_url="https://apflow.example/x")) as served:
        assert (
            httpx.post(f"{served.url}/tasks", json=CALL, headers={"Host": "apflow.example"}).status_code
            == 200
        )


@pytest.mark.parametrize("address", ["10.0.0.5", "8.8.8.8", "::2", "::ffff:10.0.0.5", "nonsense", ""])
def test_without_authentication_no_other_machine_is_answered(address: str):
    from apflow.server.http.api_error import RefusedError

    with pytest.raises(RefusedError):
        check_local(read_address(address), ["localhost"], Settings())
    check_local(read_address("::ffff:127.0.0.1"), ["localhost"], Settings())


def test_with_authentication_or_insecure_any_name_will_do(guarded: Served):
    headers = {"Host": "evil.example", **bearer()}
    assert httpx.post(f"{guarded.url}/tasks", json=CALL, headers=headers).status_code == 200
    with serving(Settings(insecure=True)) as served:
        assert httpx.post(f"{served.url}/tasks", json=CALL, headers={"Host": "a.example"}).status_code == 200


def test_no_page_of_another_origin_may_read_answers_unless_it_is_named(served: Served):
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{served.url}/tasks", headers=asked).headers
    answer = httpx.post(f"{served.url}/tasks", json=CALL, headers={"Origin": "https://page.example"})
    assert "access-control-allow-origin" not in answer.headers
    with serving(Settings(cors_origins=("https://page.example",))) as open_to_one:
        for origin, expected in (
            ("https://page.example", "https://page.example"),
            ("https://x.example", None),
        ):
            headers = asked | {"Origin": origin, "Access-Control-Request-Headers": "authorization"}
            answer = httpx.options(f"{open_to_one.url}/tasks", headers=headers)
            assert answer.headers.get("access-control-allow-origin") == expected
            assert answer.status_code == (200 if expected else 400)


def test_who_asks_too_often_is_told_when_to_come_back():
    with serving(Settings(rate_limit=5)) as served, httpx.Client(base_url=served.url) as http:
        answers = [http.post("/tasks", json=CALL) for _ in range(7)]
        assert [each.status_code for each in answers] == [200] * 5 + [429] * 2
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 120
        assert answers[-1].json()["error"]["code"] == -32010
        assert http.get("/health").status_code == 200  # probes are not counted


def test_each_user_has_a_rate_of_its_own_and_each_request_of_a_batch_counts():
    with (
        serving(Settings(rate_limit=10, jwt_secret=SECRET)) as served,
        httpx.Client(base_url=served.url) as http,
    ):
        assert http.post("/tasks", json=[CALL] * 8, headers=bearer("ann")).status_code == 200
        assert http.post("/tasks", json=[CALL] * 3, headers=bearer("ann")).status_code == 429
        assert http.post("/tasks", json=[CALL] * 8, headers=bearer("ben")).status_code == 200


def asked_by_proxy(settings: Settings, addresses: list[str]) -> list[int]:
    """Return the status of a request for each caller, by a proxy that is not 127.0.0.1."""
    by_proxy = httpx.HTTPTransport(local_address="127.0.0.2")
    with serving(settings) as served, httpx.Client(base_url=served.url, transport=by_proxy) as http:
        return [
            http.post("/tasks", json=CALL, headers=bearer(address) | {"X-Forwarded-For": address}).status_code
            for address in addresses
        ]


@pytest.mark.parametrize("trusted", [("127.0.0.2",), ("10.0.0.0/8", "127.0.0.0/24"), ("*",)])
def test_a_proxy_that_is_trusted_names_the_caller(trusted: tuple[str, ...]):
    settings = Settings(rate_limit=2, jwt_secret=SECRET, trusted_proxies=trusted)
    assert asked_by_proxy(settings, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]) == [200, 200, 200]


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8",)])
def test_any_other_is_the_caller_itself(trusted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # what uvicorn would read
    settings = Settings(rate_limit=2, jwt_secret=SECRET, trusted_proxies=trusted)
    assert asked_by_proxy(settings, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]) == [200, 200, 429]


@pytest.mark.parametrize("proxy", ["proxy.example", "10.0.0.1/8", "10.0.0.256", "10.0.0.0/33"])
def test_a_proxy_that_is_no_address_is_refused_at_the_start(proxy: str):
    with pytest.raises(SettingsError, match=f"APFLOW_TRUSTED_PROXIES names '{proxy}'"):
        check_settings(Settings(trusted_proxies=(proxy,)))


def test_an_address_of_a_socket_for_both_versions_is_recognised():
    assert "::ffff:10.0.0.0/104" in proxies_of(Settings(trusted_proxies=("10.0.0.0/8",)))


def test_of_ipv6_a_network_counts_as_one_address():
    assert rate_key(read_address("2001:db8::1")) == rate_key(read_address("2001:db8::ffff"))
    assert rate_key(read_address("2001:db8:0:1::1")) != rate_key(read_address("2001:db8::1"))
    assert rate_key(read_address("::ffff:10.0.0.1")) == "10.0.0.1"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8000", Place("127.0.0.1", 8000)),
        ("[::1]:80", Place("::1", 80)),
        (":8000", Place("0.0.0.0", 8000)),
        ("apflow.example:1", Place("apflow.example", 1)),
    ],
)
def test_a_place_to_listen_is_read(text: str, place: Place):
    assert read_place(text) == place


@pytest.mark.parametrize("text", ["", "localhost", "a:b", "a:99999", "::1:80", "a:-1"])
def test_what_is_no_place_is_refused(text: str):
    with pytest.raises(SettingsError, match="host:port"):
        read_place(text)


def test_a_place_that_others_reach_takes_authentication():
    for host in ("0.0.0.0", "10.0.0.1", "::", "apflow.example"):
        with pytest.raises(SettingsError, match="APFLOW_JWT_SECRET"):
            check_place(Place(host, 80), Settings())
        check_place(Place(host, 80), Settings(insecure=True))
        check_place(Place(host, 80), Settings(jwks_url="https://issuer.example/keys"))
    for host in ("127.0.0.1", "localhost", "::1"):
        check_place(Place(host, 80), Settings())


def test_a_place_that_is_taken_is_named():
    with (
        socket.create_server(("127.0.0.1", 0)) as bound,
        pytest.raises(CannotListenError, match="not possible"),
    ):
        listen(Place("127.0.0.1", bound.getsockname()[1]))


def test_a_fault_of_a_plugin_is_told_without_what_it_says(caplog: pytest.LogCaptureFixture):
    from fastapi import APIRouter

    from apflow.core.store.memory import MemoryStore
    from apflow.server.app import create_app

    router = APIRouter()

    @router.get("/broken")
    async def broken() -> Any:
        raise RuntimeError("SELECT password")

    app = create_app(Settings(), db=MemoryStore())
    app.include_router(router)
    with serving(app=app) as served:
        answer = httpx.get(f"{served.url}/broken")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, -32603)
    assert "password" not in answer.text
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.json()["error"]["data"]["incident"] in caplog.text


def test_an_answer_is_sent_at_once():
    with listen(Place("127.0.0.1", 0)) as bound:
        assert bound.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY
