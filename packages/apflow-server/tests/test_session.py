"""Sessions of browsers: a token in a cookie, and what a request with the cookie must carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pages import get, post
from serving import SECRET, Served, bearer, serving

from apflow.core.settings import Settings
from apflow.server.auth.session_cookie import MAX_TOKEN_BYTES

CREATE = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": {"name": "made in a browser"}}


@pytest.fixture
def browser(guarded: Served) -> Iterator[httpx.Client]:
    """A client that keeps cookies, of a server that asks for tokens."""
    with httpx.Client(base_url=guarded.url, timeout=60) as client:
        yield client


def signed_in(client: httpx.Client, user: str = "ann", **claims: Any) -> dict[str, str]:
    """Begin a session, and return the header that requests which change something need."""
    answer = client.post("/ui/session", headers=bearer(user, **claims))
    assert answer.status_code == 200
    return {"X-CSRF-Token": answer.json()["csrf"]}


def cookie_of(answer: httpx.Response) -> str:
    found: str = answer.headers["set-cookie"]
    return found


def test_a_token_becomes_a_cookie_that_scripts_cannot_read(browser: httpx.Client):
    answer = browser.post("/ui/session", headers=bearer("ann", expires_in=3600))
    described = answer.json()
    assert described["user"] == "ann"
    assert described["is_admin"] is False
    assert described["required"] is True
    assert described["expires_at"].endswith("Z") or "+00:00" in described["expires_at"]
    attributes = {each.strip().lower() for each in cookie_of(answer).split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert "secure" not in attributes
    ages = [int(each.partition("=")[2]) for each in attributes if each.startswith("max-age=")]
    assert len(ages) == 1
    assert 0 < ages[0] <= 3605


def test_a_session_identifies_its_user(browser: httpx.Client):
    header = signed_in(browser, "ben")
    made = browser.post("/tasks", json=CREATE, headers=header).json()["result"]
    assert made["user_id"] == "ben"
    found = browser.get("/ui/session").json()
    assert (found["user"], found["csrf"]) == ("ben", header["X-CSRF-Token"])


@pytest.mark.parametrize("given", [{}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tasks"), ("POST", "/call/tasks.list"), ("DELETE", "/ui/session")]
)
def test_a_cookie_alone_changes_nothing(browser: httpx.Client, given: dict[str, str], method: str, path: str):
    signed_in(browser)
    answer = browser.request(method, path, json=CREATE, headers=given)
    assert answer.status_code == 403
    assert "X-CSRF-Token" in answer.json()["error"]["message"]


def test_the_header_of_one_session_does_not_serve_another(browser: httpx.Client):
    foreign = signed_in(browser, "ben")
    browser.cookies.clear()
    signed_in(browser, "ann")
    assert browser.post("/tasks", json=CREATE, headers=foreign).status_code == 403


def test_streams_of_events_take_the_cookie(browser: httpx.Client):
    header = signed_in(browser)
    task_id = browser.post("/tasks", json=CREATE, headers=header).json()["result"]["id"]
    with browser.stream("GET", f"/tasks/{task_id}/events") as events:
        assert events.status_code == 200
        assert "snapshot" in next(events.iter_text())
    browser.cookies.clear()
    assert browser.get(f"/tasks/{task_id}/events").status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_site_or_port_does_not_use_the_session(browser: httpx.Client, site: str):
    header = signed_in(browser) | {"Sec-Fetch-Site": site}
    assert browser.get("/ui/session", headers=header).status_code == 403
    assert browser.post("/tasks", json=CREATE, headers=header).status_code == 403
    allowed = header | {"Sec-Fetch-Site": "same-origin"}
    assert browser.post("/tasks", json=CREATE, headers=allowed).status_code == 200


def test_a_bearer_token_wins_over_the_cookie_and_needs_no_other_header(browser: httpx.Client):
    signed_in(browser, "ann")
    made = browser.post("/tasks", json=CREATE, headers=bearer("ben")).json()["result"]
    assert made["user_id"] == "ben"
    described = browser.get("/ui/session", headers=bearer("ben")).json()
    assert (described["user"], described["csrf"]) == ("ben", None)


def test_a_session_is_begun_with_a_token_and_not_with_a_cookie(browser: httpx.Client):
    header = signed_in(browser)
    assert browser.post("/ui/session", headers=header).status_code == 401
    assert browser.post("/ui/session", headers={"Authorization": "Bearer no.such.token"}).status_code == 401


def test_a_session_ends(browser: httpx.Client):
    header = signed_in(browser)
    ended = browser.delete("/ui/session", headers=header)
    assert ended.status_code == 204
    assert not browser.cookies
    assert browser.get("/ui/session").status_code == 401


def test_a_session_is_not_valid_longer_than_its_token(guarded: Served):
    token = bearer("ann", expires_in=-60)["Authorization"].removeprefix("Bearer ")
    port = guarded.url.rpartition(":")[2]
    answer = get(f"{guarded.url}/ui/session", headers={"Cookie": f"apflow-session-{port}={token}"})
    assert answer.status_code == 401


def test_a_cookie_of_another_port_is_not_a_session(guarded: Served):
    token = bearer("ann")["Authorization"].removeprefix("Bearer ")
    answer = get(f"{guarded.url}/ui/session", headers={"Cookie": f"apflow-session-1={token}"})
    assert answer.status_code == 401


def test_a_token_that_no_cookie_holds_is_refused_with_a_reason(browser: httpx.Client):
    answer = browser.post("/ui/session", headers=bearer("ann", note="n" * MAX_TOKEN_BYTES))
    assert answer.status_code == 403
    assert "keep it in memory" in answer.json()["error"]["message"]
    assert "set-cookie" not in answer.headers


def test_a_server_without_tokens_has_no_sessions(served: Served):
    with httpx.Client(base_url=served.url, timeout=60) as http:
        for answer in (http.get("/ui/session"), http.post("/ui/session"), http.get("/ui/session")):
            assert answer.json() == {
                "required": False,
                "csrf": None,
                "user": None,
                "is_admin": True,
                "expires_at": None,
            }
            assert "set-cookie" not in answer.headers
        cookie = {"Cookie": f"apflow-session-{served.url.rpartition(':')[2]}=left.over.token"}
        assert http.post("/tasks", json=CREATE, headers=cookie).status_code == 200


def test_behind_a_proxy_the_cookie_is_for_the_path_of_the_public_url_and_for_https():
    settings = Settings(jwt_secret=SECRET, public_url="https://example.com/apflow")
    with serving(settings) as served:
        outside = {"Host": "example.com"} | bearer("ann")
        cookie = cookie_of(post(f"{served.url}/ui/session", headers=outside))
        assert cookie.startswith("__Secure-apflow-session=")
        assert "Path=/apflow;" in cookie
        assert "Secure" in cookie.split("; ")
        pair = cookie.partition(";")[0]
        assert (
            get(f"{served.url}/ui/session", headers={"Host": "example.com", "Cookie": pair}).status_code
            == 200
        )
        inside = cookie_of(post(f"{served.url}/ui/session", headers=bearer("ann")))
        assert "Path=/;" in inside


def test_over_https_the_cookie_of_a_whole_host_cannot_be_set_by_another_host():
    with serving(Settings(jwt_secret=SECRET)) as served:
        forwarded = {"Host": "example.com", "X-Forwarded-Proto": "https"} | bearer("ann")
        cookie = cookie_of(post(f"{served.url}/ui/session", headers=forwarded))
        assert cookie.startswith("__Host-apflow-session=")
        assert "Secure" in cookie.split("; ")


def test_the_first_of_two_cookies_counts(guarded: Served):
    name = f"apflow-session-{guarded.url.rpartition(':')[2]}"
    ann, ben = (bearer(each)["Authorization"].removeprefix("Bearer ") for each in ("ann", "ben"))
    answer = get(f"{guarded.url}/ui/session", headers={"Cookie": f"other=1; {name}={ann}; {name}={ben}"})
    assert answer.json()["user"] == "ann"
