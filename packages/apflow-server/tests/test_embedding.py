"""apflow in another FastAPI application: mounted, and as an included router."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from serving import SECRET, bearer, serving
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from apflow.core import BaseTask, MemoryStore, executor_register
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore
from apflow.server import create_app, create_router
from apflow.server.http.protection import path_in_app

TREE = {"tasks": [{"name": "embedded_double", "inputs": {"number": 21}}], "wait": True}


@executor_register(override=True)
class Double(BaseTask):
    id = "embedded_double"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"double": 2 * inputs["number"]}


def mounted(db: TaskStore, settings: Settings | None = None) -> FastAPI:
    """An application that mounts apflow and runs its lifespan."""
    flow = create_app(settings or Settings(), db=db)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with flow.router.lifespan_context(flow):
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/flow", flow)
    return with_own_path(outer, db)


def included(db: TaskStore, settings: Settings | None = None) -> FastAPI:
    """An application that includes the router of apflow."""
    outer = FastAPI()
    outer.include_router(create_router(settings or Settings(), db=db), prefix="/flow")
    return with_own_path(outer, db)


def with_own_path(outer: FastAPI, db: TaskStore) -> FastAPI:
    outer.state.db = db  # for `serving`

    @outer.get("/hello")
    async def hello() -> str:
        return "hello"

    return outer


Embedding = Callable[..., FastAPI]
both = pytest.mark.parametrize("embedded", [mounted, included])


@both
def test_an_embedded_application_runs_trees_beside_the_paths_of_the_outer_one(embedded: Embedding):
    with (
        serving(app=embedded(MemoryStore())) as served,
        httpx.Client(base_url=served.url, timeout=60) as http,  # the first run imports much
    ):
        assert http.get("/hello").json() == "hello"
        ran = http.post("/flow/call/tasks.execute", json=TREE)
        assert ran.json()["result"] == {"double": 42}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tasks.get", "params": {"task_id": "none"}}
        assert http.post("/flow/tasks", json=call).json()["error"]["code"] == -32001
        assert [http.get(f"/flow/{path}").status_code for path in ("ready", "health", "docs")] == [200] * 3
        assert http.get("/flow/nothing").status_code == 404
        assert http.get("/flow/openapi.json").json()["servers"] == [{"url": "/flow"}]
        with http.stream("GET", f"/flow/tasks/{ran.json()['root_task_id']}/events") as events:
            assert "tree_completed" in "".join(events.iter_text())


@both
async def test_an_embedded_application_answers_on_its_websocket(embedded: Embedding):
    with serving(app=embedded(MemoryStore())) as served:
        async with connect(f"{served.url.replace('http', 'ws')}/flow/ws") as socket:
            await socket.send('{"action": "watch", "task_id": "none"}')
            assert "-32001" in str(await socket.recv())


@both
async def test_requests_are_refused_if_the_lifespan_has_not_run(embedded: Embedding):
    transport = httpx.ASGITransport(embedded(MemoryStore()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for path in ("call/tasks.execute", "call/tasks.list", "tasks"):
            refused = await http.post(f"/flow/{path}", json=TREE)
            assert refused.status_code == 503
            assert "lifespan" in refused.json()["error"]["message"]
        assert (await http.get("/flow/ready")).json() == {"status": "not started"}
        assert (await http.get("/flow/health")).status_code == 503
        assert (await http.get("/flow/openapi.json")).status_code == 200


async def test_requests_are_refused_once_the_lifespan_has_ended():
    flow = create_app(Settings(), db=MemoryStore())
    async with flow.router.lifespan_context(flow):
        pass
    transport = httpx.ASGITransport(flow)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.post("/call/tasks.execute", json=TREE)).status_code == 503


async def test_a_websocket_is_refused_with_the_same_status_if_the_lifespan_has_not_run():
    outer = FastAPI()
    outer.mount("/flow", create_app(Settings(), db=MemoryStore()))
    with serving(app=with_own_path(outer, MemoryStore())) as served:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{served.url.replace('http', 'ws')}/flow/ws")
        assert refused.value.response.status_code == 503


@both
def test_an_embedded_application_requires_its_tokens(embedded: Embedding):
    outer = embedded(MemoryStore(), Settings(jwt_secret=SECRET))
    with serving(app=outer) as served, httpx.Client(base_url=served.url) as http:
        assert http.post("/flow/call/tasks.list", json={}).status_code == 401
        assert http.post("/flow/call/tasks.list", json={}, headers=bearer()).status_code == 200


def test_dependencies_apply_to_an_included_router():
    done: list[str] = []

    async def check(tasks: BackgroundTasks, key: str = "") -> None:
        if key != "open":
            raise HTTPException(402, "Pay first.")
        tasks.add_task(done.append, key)

    outer = FastAPI()
    router = create_router(Settings(), db=MemoryStore())
    outer.include_router(router, prefix="/flow", dependencies=[Depends(check)])
    with (
        serving(app=with_own_path(outer, MemoryStore())) as served,
        httpx.Client(base_url=served.url) as http,
    ):
        assert http.post("/flow/call/tasks.list", json={}).status_code == 402
        assert http.post("/flow/call/tasks.list?key=open", json={}).json() == []
    assert done == ["open"]


@both
def test_probes_below_a_prefix_do_not_count_as_requests(embedded: Embedding):
    outer = embedded(MemoryStore(), Settings(rate_limit=2))
    with serving(app=outer) as served, httpx.Client(base_url=served.url) as http:
        assert {http.get("/flow/health").status_code for _ in range(5)} == {200}
        assert http.post("/flow/call/tasks.list", json={}).status_code == 200


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/health", "", "/health"),
        ("/flow/health", "/flow", "/health"),
        ("/flowers", "/flow", "/flowers"),
        ("/health", "/behind/a/proxy", "/health"),
    ],
)
def test_the_path_within_an_application_leaves_its_prefix_out(path: str, root: str, expected: str):
    assert path_in_app({"path": path, "root_path": root}) == expected
