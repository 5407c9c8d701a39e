"""Who may do what: every operation, stream and path, for each kind of caller.

The cells are generated from the table of operations and from the routes of the application. A new operation
or route without a row here fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from asking import Asks
from serving import SECRET, Served, bearer, serving, wait_for

from apflow.core import executor_register
from apflow.core.service.operations import OPERATIONS
from apflow.core.settings import Settings
from apflow.server.a2a.routes import CARD_PATHS, JSON_RPC_PATHS, REST_PATH
from apflow.server.http.response import RPC_PATHS

CALLERS: dict[str, dict[str, str]] = {
    "owner": bearer("ann"),
    "other": bearer("ben"),
    "admin": bearer("root", role="admin"),
    "anonymous": {},
    "expired": bearer("ann", expires_in=-60),
}
KNOWN = ("owner", "other", "admin")
MISSING = "there-is-no-such-task"


@dataclass(frozen=True)
class Row:
    """Parameters of an operation that name the owner's tasks, or act for the owner."""

    params: Callable[[str], Any]
    is_for_admins: bool = False  # every other user is refused
    about_tasks: bool = True  # another user gets the error that there is no such task
    other: int | None = None  # the code that a stranger gets where no task is named; None: a separate answer
    more: list[Callable[[str], Any]] = field(default_factory=list[Callable[[str], Any]])


def one(task: str) -> Any:
    return {"task_id": task}


# What another user may ask for without naming a task, is answered with what is its own: nothing of Ann's.
ROWS: dict[str, Row] = {
    "tasks.create": Row(lambda _: {"name": "n", "user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.submit": Row(lambda _: {"name": "n", "user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.execute": Row(
        one,
        more=[
            lambda t: {"task_id": t, "copy_execution": True},
            lambda t: {"task_id": t, "use_streaming": True},
            lambda t: {"task_id": t, "webhook_config": {"url": "http://203.0.113.9/"}},
            lambda t: {"task_id": t, "force": True},
        ],
    ),
    "tasks.watch": Row(one, more=[lambda t: {"task_id": t, "after": 0}]),
    "tasks.logs": Row(one, more=[lambda t: {"task_id": t, "attempt": 1, "after": 0, "level": "INFO"}]),
    "tasks.webhooks": Row(one),
    "tasks.get": Row(one),
    "tasks.detail": Row(one, more=[lambda t: {"task_id": t, "history": True}]),
    "tasks.attempts": Row(one),
    "tasks.budget": Row(lambda t: {"task_id": t, "calls": 5}),
    "tasks.usage": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.list": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.children": Row(lambda t: {"parent_id": t}),
    "tasks.tree": Row(one),
    "tasks.count": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.update": Row(lambda t: {"task_id": t, "name": "renamed"}),
    "tasks.copy": Row(one, more=[lambda t: {"task_id": t, "save": False}]),
    "tasks.fork": Row(
        one,
        more=[
            lambda t: {"task_id": t, "save": False},
            lambda t: {"task_id": t, "from_task_ids": [t]},
            lambda t: {"task_id": t, "overrides": {t: {"name": "renamed"}}},
        ],
    ),
    # These answer with a row per task; see the test of rows below.
    "tasks.cancel": Row(
        lambda t: {"task_ids": [t]}, more=[lambda t: {"context_ids": [t]}], about_tasks=False
    ),
    "tasks.running.cancel": Row(lambda t: {"task_ids": [t]}, about_tasks=False),
    "tasks.running.list": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.running.count": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.running.status": Row(lambda t: {"task_ids": [t]}, about_tasks=False),
    "tasks.resume": Row(lambda t: {"task_ids": [t]}, more=[lambda t: {"task_ids": [t, t]}]),
    "tasks.why": Row(one),
    "tasks.delete": Row(one, more=[lambda t: {"task_id": t, "force": True}]),
    "schedules.create": Row(
        lambda _: {"tasks": [{"name": "n"}], "every": "1h", "user_id": "ann"}, about_tasks=False, other=-32003
    ),
    "schedules.list": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "schedules.update": Row(
        lambda t: {"schedule_id": t, "every": "2h"},
        more=[lambda t: {"schedule_id": t, "tasks": [{"name": "n"}]}],
    ),
    **{
        f"schedules.{name}": Row(lambda t: {"schedule_id": t})
        for name in ("show", "next", "pause", "resume", "trigger", "delete")
    },
    "approvals.list": Row(lambda _: {"status": "all"}, about_tasks=False),
    "approvals.get": Row(one),
    "approvals.approve": Row(lambda t: {"task_id": t, "reason": "Fine."}),
    "approvals.reject": Row(lambda t: {"task_id": t, "reason": "No."}),
    "tasks.plan": Row(lambda _: {"name": "n"}, about_tasks=False),
    "tasks.export": Row(lambda _: {"user_id": "ann"}, about_tasks=False, other=-32003),
    "tasks.stats": Row(lambda _: {"user_id": "ann", "since": "1d"}, about_tasks=False, other=-32003),
    "tasks.purge": Row(
        lambda _: {"older_than": "30d", "user_id": "ann", "tags": "a,b"}, about_tasks=False, other=-32003
    ),
    "system.health": Row(lambda _: {}, about_tasks=False),
    "system.whoami": Row(lambda _: {}, about_tasks=False),
    "system.metrics": Row(lambda _: {}, about_tasks=False),
    "system.database": Row(lambda _: {}, about_tasks=False, is_for_admins=True),
    "system.query": Row(lambda _: {"sql": "SELECT 1"}, about_tasks=False, is_for_admins=True),
    "system.checkpoint": Row(lambda _: {}, about_tasks=False, is_for_admins=True),
    "system.vacuum": Row(lambda _: {}, about_tasks=False, is_for_admins=True),
    "system.workers": Row(lambda _: {}, about_tasks=False, is_for_admins=True),
    "system.webhooks": Row(lambda _: {}, about_tasks=False, is_for_admins=True),
    "system.executors": Row(lambda _: {}, about_tasks=False),
    "system.available_executors": Row(lambda _: {}, about_tasks=False),
    "system.executor": Row(lambda _: {"executor_id": "nothing"}, about_tasks=False, other=-32001),
    # Without a model of this provider, no model is called.
    "tasks.generate": Row(
        lambda _: {"requirement": "Do it.", "user_id": "ann", "provider": "nowhere"},
        about_tasks=False,
        other=-32003,
    ),
    "config.llm_key.set": Row(lambda _: {"api_key": "sk-tenancy"}, about_tasks=False),
    "config.llm_key.get": Row(lambda _: {}, about_tasks=False),
    "config.llm_key.delete": Row(lambda _: {}, about_tasks=False),
}

# Operations over several tasks: one that the caller may not see has a row `not_found`, as a missing one has.
BY_ROW = {"tasks.cancel", "tasks.running.cancel", "tasks.running.status"}

# Paths besides those of the operations: open to everybody, or a request that names a task.
PAGE = {"/ui", "/ui/", "/ui/{name}", "/ui/assets/{name}"}  # files that hold nothing secret
OPEN = {"/health", "/ready", "/docs", "/openapi.json", *CARD_PATHS, *PAGE}
PATHS: dict[str, Callable[[str], str]] = {
    "/tasks/{task_id:path}/events": lambda t: f"/tasks/{t}/events",
    "/tasks/{task_id:path}/logs": lambda t: f"/tasks/{t}/logs",
}
SESSION = {"/ui/session"}
MCP = {"/mcp", "/mcp/"}  # see test_mcp_tenancy
# Metadata for clients that have no token yet: where the issuer is.
METADATA = {"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"}
GUARDED = {"/metrics", "/backup"}  # any token, or an admin
STREAMS = {"/ws", "/follow"}  # see test_followed_calls, too
FILES = {"/ui/tree-file"}  # for any token, see test_tree_file


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APFLOW_NET_ALLOW", "203.0.113.9")  # no host has this address
        with serving(Settings(jwt_secret=SECRET, rate_limit=1_000_000)) as found:
            yield found


@pytest.fixture(scope="module")
def client(guarded: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=60) as found:
        yield found


@pytest.fixture
def task(client: httpx.Client, request: pytest.FixtureRequest) -> str:
    """A tree of Ann's, pending, with a child; for operations on schedules, also a schedule of its name.

    For operations on approvals, a task that waits for one.
    """
    return created_for(client, request.node.name)


def created_for(client: httpx.Client, test: str, root: str = "group") -> str:
    """Create a tree for a test of an operation and, if it is on schedules, a schedule named after its ID."""
    if "approvals." in test:
        return asked_for(client, root)
    tree = [{"id": "r", "name": root}, {"id": "c", "name": "child", "parent_id": "r", "inputs": {"a": 1}}]
    created: str = call(client, "tasks.create", {"tasks": tree}, CALLERS["owner"])["result"]["id"]
    if "schedules." in test:
        made = {"tasks": [{"name": "n"}], "every": "1d", "name": created}
        assert "result" in call(client, "schedules.create", made, CALLERS["owner"])
    return created


def asked_for(client: httpx.Client, root: str) -> str:
    """Run a task of Ann's that waits for an approval; return its ID."""
    executor_register(Asks, override=True)
    tree = [{"name": root, "schemas": {"method": Asks.id}}]
    started: str = call(client, "tasks.execute", {"tasks": tree}, CALLERS["owner"])["result"]["task_id"]
    wait_for(lambda: "result" in call(client, "approvals.get", one(started), CALLERS["owner"]))
    return started


def call(client: httpx.Client, method: str, params: Any, headers: dict[str, str]) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    with client.stream("POST", "/tasks", json=request, headers=headers) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return {"result": "stream"}  # a stream that is read to its end has its own tests
        answer.read()
        return {"http": answer.status_code} | answer.json()


VARIANTS = [
    pytest.param(operation, variant, caller, id=f"{operation}-{at}-{caller}")
    for operation, row in ROWS.items()
    for at, variant in enumerate([row.params, *row.more])
    for caller in CALLERS
]


@pytest.mark.parametrize(("operation", "variant", "caller"), VARIANTS)
def test_an_operation_by_json_rpc(
    client: httpx.Client, task: str, operation: str, variant: Callable[[str], Any], caller: str
):
    answer = call(client, operation, variant(task), CALLERS[caller])
    check(answer, operation, caller)
    if ROWS[operation].about_tasks and caller in ("other", "admin"):
        missing = call(client, operation, variant(MISSING), CALLERS[caller])
        assert is_missing(missing, operation)
        if caller == "other":
            assert without_id(answer, task) == without_id(missing, MISSING)


@pytest.fixture(scope="module")
def cookies(guarded: Served) -> dict[str, dict[str, str]]:
    """Headers of each caller that has a session, instead of a bearer token."""
    found = dict[str, dict[str, str]]()
    for caller in KNOWN:
        answer = httpx.post(f"{guarded.url}/ui/session", headers=CALLERS[caller], timeout=60)
        cookie = answer.headers["set-cookie"].partition(";")[0]
        found[caller] = {"Cookie": cookie, "X-CSRF-Token": answer.json()["csrf"]}
    return found


@pytest.mark.parametrize("caller", ["other", "admin"])
@pytest.mark.parametrize("operation", ROWS)
def test_an_operation_in_a_session_of_a_browser(
    client: httpx.Client, task: str, cookies: dict[str, dict[str, str]], operation: str, caller: str
):
    params = ROWS[operation].params(task)
    check(call(client, operation, params, cookies[caller]), operation, caller)
    without_header = {"Cookie": cookies[caller]["Cookie"]}
    assert call(client, operation, params, without_header)["http"] == 403


@pytest.mark.parametrize("caller", KNOWN)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_names_a_task_in_a_session(
    client: httpx.Client, task: str, cookies: dict[str, dict[str, str]], path: str, caller: str
):
    with client.stream("GET", PATHS[path](task), headers=cookies[caller]) as answer:
        assert answer.status_code == (404 if caller == "other" else 200)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_session_is_that_of_who_bears_the_token(client: httpx.Client, caller: str):
    user = {"owner": "ann", "other": "ben", "admin": "root"}.get(caller)
    for answer in (
        client.get("/ui/session", headers=CALLERS[caller]),
        client.post("/ui/session", headers=CALLERS[caller]),
    ):
        client.cookies.clear()
        assert answer.status_code == (401 if user is None else 200)
        if user is not None:
            assert (answer.json()["user"], answer.json()["is_admin"]) == (user, caller == "admin")


@pytest.mark.parametrize("operation", ["tasks.cancel", "tasks.running.cancel", "tasks.running.status"])
def test_a_row_of_a_foreign_task_is_that_of_a_missing_one(client: httpx.Client, task: str, operation: str):
    foreign = call(client, operation, {"task_ids": [task]}, CALLERS["other"])
    missing = call(client, operation, {"task_ids": [MISSING]}, CALLERS["other"])
    assert [row["status"] for row in foreign["result"]] == ["not_found"]
    assert without_id(foreign, task) == without_id(missing, MISSING)


# The status of what is allowed, and not possible here.
EXPECTED = {"system.executor": (404,), "system.query": (422,), "tasks.generate": (404, 502)}


def check(answer: Any, operation: str, caller: str) -> None:
    row = ROWS[operation]
    if caller not in KNOWN:
        assert (answer["http"], answer["error"]["code"]) == (401, -32003)
        assert "result" not in answer
    elif row.is_for_admins and caller != "admin":
        assert answer["error"]["code"] == -32003
    elif caller == "other" and row.about_tasks:
        assert is_missing(answer, operation)
    elif caller == "other" and row.other is not None:
        assert answer["error"]["code"] == row.other
    elif operation == "system.executor":
        assert answer["error"]["code"] == -32001
    elif operation == "system.query":  # a database in memory answers no SQL
        assert answer["error"]["code"] == -32602
    elif operation == "tasks.generate":  # depending on whether its executor is installed
        assert answer["error"]["code"] in (-32001, -32603)
    else:
        assert "result" in answer, answer


def is_missing(answer: Any, operation: str) -> bool:
    if operation in BY_ROW:
        return {row["status"] for row in answer["result"]} == {"not_found"}
    return answer["error"]["code"] == -32001


def without_id(answer: Any, task: str) -> str:
    return str(answer).replace(task, "ID")


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", ROWS)
def test_an_operation_over_plain_http(client: httpx.Client, task: str, operation: str, caller: str):
    row, headers = ROWS[operation], CALLERS[caller]
    with client.stream("POST", f"/call/{operation}", json=row.params(task), headers=headers) as answer:
        status = answer.status_code
        if status != 200:
            answer.read()
    if caller not in KNOWN:
        assert status == 401
    elif caller == "other" and row.about_tasks:
        missing = client.post(f"/call/{operation}", json=row.params(MISSING), headers=headers)
        expected = 200 if operation in BY_ROW else 404
        assert (status, missing.status_code) == (expected, expected)
        if operation in BY_ROW:
            assert is_missing({"result": missing.json()}, operation)
            return
        assert without_id(answer.json(), task) == without_id(missing.json(), MISSING)
    elif (caller == "other" and row.other == -32003) or (row.is_for_admins and caller != "admin"):
        assert status == 403
    else:
        assert status in EXPECTED.get(operation, (200,))


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_names_a_task(client: httpx.Client, task: str, path: str, caller: str):
    with client.stream("GET", PATHS[path](task), headers=CALLERS[caller]) as answer:
        expected = {"owner": 200, "admin": 200, "other": 404}.get(caller, 401)
        assert answer.status_code == expected
        if caller == "other":
            missing = client.get(PATHS[path](MISSING), headers=CALLERS[caller])
            assert without_id(answer.read().decode(), task) == without_id(missing.text, MISSING)


@pytest.mark.parametrize("caller", ["anonymous", "expired"])
def test_a_guarded_path_takes_a_token(client: httpx.Client, guarded: Served, caller: str):
    for path in GUARDED & set(paths(guarded)):
        assert client.get(path, headers=CALLERS[caller]).status_code == 401


@pytest.mark.parametrize(("caller", "status"), [("owner", 403), ("other", 403), ("admin", 200)])
def test_only_an_admin_gets_a_copy_of_the_database(client: httpx.Client, caller: str, status: int):
    answer = client.get("/backup", headers=CALLERS[caller])
    is_file = answer.status_code == 200 and answer.content[8:12] == b"DUCK"
    if status == 403:
        assert answer.status_code == 403
    else:  # a database in memory cannot be copied
        assert is_file or "cannot be copied" in answer.text or "can be copied" in answer.text


def test_nothing_of_another_is_among_the_answers_of_lists(client: httpx.Client, task: str):
    made = {"tasks": [{"name": "n"}], "every": "1d"}
    assert call(client, "schedules.create", made, CALLERS["owner"])["result"]["user_id"] == "ann"
    asked_for(client, "anns")
    for operation in ("tasks.list", "tasks.running.list", "schedules.list", "approvals.list"):
        found = call(client, operation, {}, CALLERS["other"])["result"]
        assert [each for each in found if each.get("user_id") == "ann"] == []
    assert call(client, "tasks.count", {"root_only": True}, bearer("nobody"))["result"]["total"] == 0
    assert call(client, "system.metrics", {}, bearer("nobody"))["result"]["tasks"]["pending"] == 0


def test_a_task_of_another_is_no_place_to_list_on_from(client: httpx.Client, task: str):
    answer = call(client, "tasks.list", {"cursor": task}, CALLERS["other"])
    missing = call(client, "tasks.list", {"cursor": MISSING}, CALLERS["other"])
    assert answer["error"]["code"] == -32001
    assert without_id(answer, task) == without_id(missing, MISSING)


def test_tasks_of_others_are_no_parents_and_no_dependencies(client: httpx.Client, task: str):
    for more in ({"parent_id": task}, {"dependencies": [task]}):
        answer = call(client, "tasks.create", {"name": "mine", **more}, CALLERS["other"])
        missing = call(
            client,
            "tasks.create",
            {"name": "mine", **{k: MISSING if v == task else [MISSING] for k, v in more.items()}},
            CALLERS["other"],
        )
        assert answer["error"]["code"] == -32602
        assert without_id(answer, task) == without_id(missing, MISSING)


def test_an_id_that_another_has_taken_is_not_told_of(client: httpx.Client, task: str):
    created = call(client, "tasks.create", {"id": task, "name": "mine"}, CALLERS["other"])["result"]
    assert created["id"] != task
    assert created["user_id"] == "ben"


def test_an_idempotency_key_is_the_callers_own(client: httpx.Client):
    ids = {
        call(client, "tasks.create", {"name": "n", "idempotency_key": "same"}, CALLERS[caller])["result"][
            "id"
        ]
        for caller in KNOWN
    }
    assert len(ids) == 3


def test_a_key_for_language_models_is_the_callers_own(client: httpx.Client):
    call(client, "config.llm_key.set", {"api_key": "sk-anns", "provider": "p"}, CALLERS["owner"])
    has = [
        call(client, "config.llm_key.get", {"provider": "p"}, CALLERS[each])["result"]["has_key"]
        for each in KNOWN
    ]
    assert has == [True, False, False]
    call(client, "config.llm_key.delete", {"provider": "p"}, CALLERS["owner"])


def paths(guarded: Served) -> list[str]:
    """Every path of the application, those of plugins and mounts included."""
    waiting, found = list(guarded.app.routes), list[str]()
    while waiting:
        route: Any = waiting.pop()
        if hasattr(route, "original_router"):  # how FastAPI keeps an included router
            waiting += route.original_router.routes
        else:
            found.append(route.path)
    return found


def test_every_operation_has_a_row():
    assert set(ROWS) == set(OPERATIONS)


def test_every_path_has_a_row(guarded: Served):
    operations = {f"/call/{each}" for each in ROWS}
    a2a = {*JSON_RPC_PATHS, REST_PATH}  # their cells are in test_a2a_tenancy.py
    known = OPEN | SESSION | set(PATHS) | GUARDED | MCP | METADATA | STREAMS | FILES
    known |= operations | set(RPC_PATHS) | a2a
    assert set(paths(guarded)) - known == set()
    assert operations <= set(paths(guarded))


def test_there_are_at_least_three_hundred_cells():
    assert len(VARIANTS) + len(ROWS) * len(CALLERS) + len(PATHS) * len(CALLERS) >= 300


def test_a_refusal_has_no_trace_of_the_inside(client: httpx.Client, task: str):
    answer = str(call(client, "tasks.get", {"task_id": task}, CALLERS["other"]))
    assert not re.search(r"Traceback|SELECT|File \"|ann", answer)
