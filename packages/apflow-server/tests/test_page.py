"""The page of the server: its files, its headers, and where it is found."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pages import INDEX, SCRIPT, get, write_page
from serving import SECRET, Served, serving

from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server import create_app
from apflow.server.ui.routes import POLICY

ASSET = "/ui/assets/page-1a2b3c4d.js"


@pytest.fixture
def page(served: Served, tmp_path: Path) -> Served:
    """A server without authentication that has a small page."""
    served.app.state.page_folder = write_page(tmp_path / "static")
    return served


@pytest.fixture
def http(page: Served) -> Iterator[httpx.Client]:
    """A client of `page`."""
    with httpx.Client(base_url=page.url, timeout=60) as client:
        yield client


def test_the_page_is_found_from_its_name_without_a_slash(http: httpx.Client):
    answer = http.get("/ui")
    assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
    assert http.get("/ui", follow_redirects=True).text == INDEX


def test_the_page_is_asked_for_again_and_may_run_nothing_of_others(http: httpx.Client):
    answer = http.get("/ui/")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"] == POLICY
    assert "'unsafe" not in POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_head_of_the_page_is_that_of_its_answer(http: httpx.Client):
    head, whole = http.head("/ui/"), http.get("/ui/")
    assert head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_what_has_a_hash_in_its_name_is_kept_by_browsers(http: httpx.Client):
    answer = http.get(ASSET)
    assert answer.text == SCRIPT
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_file_that_a_browser_has_is_not_sent_again(http: httpx.Client):
    for path in ("/ui/", ASSET):
        etag = http.get(path).headers["etag"]
        known = http.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_file_is_compressed_for_clients_that_take_it(http: httpx.Client):
    packed, plain = (http.get(ASSET, headers={"Accept-Encoding": each}) for each in ("gzip", "gzip;q=0"))
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.text == plain.text == SCRIPT
    assert packed.headers["etag"] != plain.headers["etag"]
    assert int(packed.headers["content-length"]) < len(SCRIPT)
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_a_new_build_is_served_without_a_restart(page: Served, http: httpx.Client):
    first = http.get(ASSET)
    (page.app.state.page_folder / "assets" / "page-1a2b3c4d.js").write_text("new")
    second = http.get(ASSET)
    assert (first.text, second.text) == (SCRIPT, "new")
    assert first.headers["etag"] != second.headers["etag"]


@pytest.mark.parametrize(
    "path",
    [
        "/ui/runs",
        "/ui/assets/",
        "/ui/assets/none.js",
        "/ui/assets/notes.exe",
        "/ui/assets/..%2Findex.html",
        "/ui/assets/%2Fetc%2Fhosts.txt",
        "/ui/.hidden.txt",
        "/ui/assets",
        "/ui/assets/deeper/page.js",
    ],
)
def test_nothing_else_is_served(http: httpx.Client, path: str):
    assert http.get(path).status_code == 404


def test_a_folder_is_not_served_as_a_file(page: Served, http: httpx.Client):
    (page.app.state.page_folder / "assets" / "folder.js").mkdir()
    assert http.get("/ui/assets/folder.js").status_code == 404


def test_a_page_that_was_not_built_is_answered_with_how_to_build_it(served: Served, tmp_path: Path):
    served.app.state.page_folder = tmp_path
    answer = get(f"{served.url}/ui/")
    assert answer.status_code == 404
    assert "npm run build" in answer.json()["error"]["message"]


def test_a_setting_leaves_the_page_out():
    with serving(Settings(ui=False)) as served:
        for path in ("/ui", "/ui/", "/ui/session", ASSET):
            assert get(served.url + path).status_code == 404


def test_the_page_needs_no_token(tmp_path: Path):
    with serving(Settings(jwt_secret=SECRET)) as served:
        served.app.state.page_folder = write_page(tmp_path / "static")
        assert get(f"{served.url}/ui/").status_code == 200
        assert get(served.url + ASSET).status_code == 200


def mounted(flow: FastAPI) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with flow.router.lifespan_context(flow):
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/flow", flow)
    return outer


def included(flow: FastAPI) -> FastAPI:
    from apflow.server.embedding import router_of

    outer = FastAPI()
    outer.include_router(router_of(flow), prefix="/flow")
    return outer


@pytest.mark.parametrize("embedded", [mounted, included])
def test_the_page_works_in_an_application_that_embeds_apflow(
    embedded: Callable[[FastAPI], FastAPI], tmp_path: Path
):
    flow = create_app(Settings(), db=MemoryStore())
    flow.state.page_folder = write_page(tmp_path / "static")
    outer = embedded(flow)
    outer.state.db = flow.state.db
    with serving(app=outer) as served, httpx.Client(base_url=served.url, timeout=60) as http:
        assert http.get("/flow/ui").headers["location"] == "ui/"
        assert http.get("/flow/ui/").text == INDEX
        assert http.get(f"/flow{ASSET}").text == SCRIPT
        assert http.get("/flow/ui/nothing.js").status_code == 404
        assert http.get("/ui/").status_code == 404
