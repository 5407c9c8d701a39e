"""JSON-RPC over real HTTP: what is answered, and what each kind of failure looks like."""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Served, serving
from trees import steps

from apflow.core.errors import StoreLockedError
from apflow.core.settings import Settings, reset_settings
from apflow.core.store.memory import MemoryStore


@pytest.fixture
def executor() -> Iterator[None]:
    """Have `server_steps` registered."""
    with steps():
        yield


def rpc(http: httpx.Client, method: str, params: Any = None, **more: Any) -> dict[str, Any]:
    """Call a method and return the answer, whatever it is."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method} | ({} if params is None else {"params": params})
    return http.post("/tasks", json=request | more).json()


def code(answer: dict[str, Any]) -> int:
    return answer["error"]["code"]


def test_a_task_is_created_and_read(http: httpx.Client):
    created = rpc(
        http, "tasks.create", [{"id": "r", "name": "root"}, {"id": "c", "name": "child", "parent_id": "r"}]
    )
    assert created["id"] == 1
    assert [child["name"] for child in created["result"]["children"]] == ["child"]
    assert rpc(http, "tasks.get", {"id": "r"})["result"]["name"] == "root"


@pytest.mark.parametrize(
    "params",
    [
        {"name": "one"},
        [{"name": "one"}],
        {"tasks": [{"name": "one"}]},
        {"tasks": {"name": "one"}},
        {"name": "one", "on_conflict": "error", "idempotency_key": "k"},
    ],
    ids=str,
)
def test_what_to_create_may_be_given_in_each_form(http: httpx.Client, params: Any):
    assert rpc(http, "tasks.create", params)["result"]["name"] == "one"


@pytest.mark.usefixtures("executor")
def test_creating_with_execute_also_runs(http: httpx.Client):
    created = rpc(http, "tasks.create", {"name": "server_steps", "execute": True})["result"]
    ended = rpc(http, "tasks.execute", {"task_id": created["id"], "wait": True, "idempotency_key": "k"})
    assert ended["result"]["status"] == "completed"


@pytest.mark.usefixtures("executor")
def test_a_run_is_answered_with_what_the_documents_promise(http: httpx.Client):
    answer = rpc(http, "tasks.execute", {"tasks": [{"name": "server_steps"}], "wait": True})["result"]
    assert answer["protocol"] == "jsonrpc"
    assert {"success", "root_task_id", "task_id", "status", "message", "result"} <= set(answer)
    copy = rpc(http, "tasks.execute", {"id": answer["task_id"], "copy_execution": True})["result"]
    assert copy["original_task_id"] == answer["task_id"]
    assert copy["task_id"] != answer["task_id"]


def test_system_methods_are_there_too(http: httpx.Client):
    request = {"jsonrpc": "2.0", "id": "x", "method": "system.health"}
    answer = http.post("/system", json=request).json()
    assert (answer["id"], answer["result"]["status"]) == ("x", "healthy")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{", -32700),
        ("", -32700),
        ('{"a": NaN}', -32700),
        ("\ud83d\ude00".encode("utf-16", "surrogatepass").decode("latin-1"), -32700),
        ("[" * 100_000, -32700),
        ('{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "tasks.list"}', -32700),
        (
            '{"jsonrpc": "2.0", "method": "tasks.create", "params": {"tasks": [{"name": "a", "name": "b"}]}}',
            -32700,
        ),
        ('"\\ud800"', -32700),
        ("[" * 100 + "]" * 100, -32600),
        ("[]", -32600),
        ("1", -32600),
        ('"text"', -32600),
        ("{}", -32600),
        ('{"jsonrpc": "1.0", "method": "tasks.list", "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": 5, "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": "tasks.list", "id": {}}', -32600),
        ('{"jsonrpc": "2.0", "method": "tasks.list", "id": true}', -32600),
        ('{"jsonrpc": "2.0", "method": "tasks.list", "id": 1, "params": "all"}', -32600),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_is_refused_as_malformed(http: httpx.Client, body: str, expected: int):
    answer = http.post("/tasks", content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["id"] is None
    assert code(answer.json()) == expected


def test_each_kind_of_failure_has_its_code_inside_a_valid_exchange(http: httpx.Client):
    rpc(http, "tasks.create", [{"id": "r", "name": "r"}])
    assert code(rpc(http, "tasks.fly")) == -32601
    assert code(rpc(http, "tasks.get", {"task_id": "nowhere"})) == -32001
    assert code(rpc(http, "tasks.get", ["r"])) == -32602
    assert (
        code(rpc(http, "tasks.create", {"tasks": [{"id": "r", "name": "r"}], "on_conflict": "error"}))
        == -32009
    )
    assert code(rpc(http, "system.executor", {"id": "nothing"})) == -32001
    wrong = rpc(http, "tasks.list", {"limit": "many", "colour": "red"})
    assert code(wrong) == -32602
    assert wrong["error"]["data"]["type"] == "InvalidInputError"
    assert [each.partition(":")[0] for each in wrong["error"]["data"]["violations"]] == ["limit", "colour"]


@pytest.mark.usefixtures("executor")
def test_a_program_can_tell_one_refusal_from_another(http: httpx.Client):
    rpc(http, "tasks.create", {"tasks": [{"name": "one"}], "idempotency_key": "k"})
    rpc(http, "tasks.create", [{"id": "r", "name": "server_steps", "inputs": {"waits": True}}])
    rpc(http, "tasks.execute", {"task_id": "r"})
    refused: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("tasks.get", {"task_id": "x"}, {"type": "NotFoundError", "task_id": "x"}),
        ("tasks.execute", {"task_id": "r"}, {"type": "AlreadyRunningError", "root_id": "r"}),
        (
            "tasks.create",
            {"tasks": [{"id": "r", "name": "r"}], "on_conflict": "error"},
            {"type": "IdTakenError", "task_ids": ["r"]},
        ),
        (
            "tasks.create",
            {"tasks": [{"name": "other"}], "idempotency_key": "k"},
            {"type": "KeyUsedError", "key": "k"},
        ),
        ("tasks.delete", {"task_id": "r"}, {"type": "ConflictError"}),
        ("tasks.update", {"task_id": "r", "priority": 0}, {"type": "ConflictError"}),
    ]
    for method, params, data in refused:
        assert rpc(http, method, params)["error"]["data"] == data, method
        answer = http.post(f"/call/{method}", json=params)
        assert answer.status_code in (404, 409)
        assert answer.json()["error"]["data"] == data
    unknown = rpc(http, "system.executor", {"id": "rest"})["error"]["data"]
    assert (unknown["type"], unknown["executor_id"]) == ("ExecutorNotFoundError", "rest")
    rpc(http, "tasks.cancel", {"task_ids": ["r"], "force": True})


def test_an_invalid_array_is_an_error_and_creates_nothing(http: httpx.Client):
    answer = rpc(http, "tasks.execute", {"tasks": [{"name": "a", "dependencies": ["b"]}]})
    assert code(answer) == -32602
    assert answer["error"]["data"]["type"] == "TreeInvalidError"
    assert len(answer["error"]["data"]["violations"]) == 1
    assert rpc(http, "tasks.count")["result"]["total"] == 0


def test_a_notification_is_done_and_not_answered(http: httpx.Client):
    answer = http.post(
        "/tasks", json={"jsonrpc": "2.0", "method": "tasks.create", "params": {"name": "quiet"}}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert rpc(http, "tasks.count")["result"]["total"] == 1
    assert http.post("/tasks", json={"jsonrpc": "2.0", "method": "nothing"}).status_code == 204


def test_a_batch_is_answered_one_by_one_without_notifications(http: httpx.Client):
    batch = [
        {"jsonrpc": "2.0", "method": "tasks.create", "params": {"id": "b", "name": "b"}, "id": 1},
        {"jsonrpc": "2.0", "method": "tasks.update", "params": {"id": "b", "name": "c"}},
        {"jsonrpc": "2.0", "method": "tasks.get", "params": {"id": "b"}, "id": 2},
        {"jsonrpc": "2.0", "method": "tasks.watch", "params": {"id": "b"}, "id": 3},
        5,
    ]
    answer = http.post("/tasks", json=batch)
    assert answer.status_code == 200
    assert [each["id"] for each in answer.json()] == [1, 2, 3, None]
    assert answer.json()[1]["result"]["name"] == "c"
    assert [code(each) for each in answer.json()[2:]] == [-32600, -32600]
    assert http.post("/tasks", json=[batch[1], batch[1]]).status_code == 204


def test_a_batch_is_limited(http: httpx.Client):
    one = {"jsonrpc": "2.0", "method": "tasks.count", "id": 1}
    assert http.post("/tasks", json=[one] * 101).status_code == 413
    assert len(http.post("/tasks", json=[one] * 100).json()) == 100


def test_what_is_not_declared_as_json_is_refused(http: httpx.Client):
    body = '{"jsonrpc": "2.0", "method": "tasks.count", "id": 1}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert http.post("/tasks", content=body, headers={"Content-Type": kind}).status_code == 415
    assert http.post(
        "/tasks", content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    ).json()


def test_what_is_compressed_is_refused(http: httpx.Client):
    body = gzip.compress(b'{"jsonrpc": "2.0", "method": "tasks.count", "id": 1}')
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = http.post("/tasks", content=body, headers=headers)
    assert (answer.status_code, code(answer.json())) == (415, -32600)
    plain = {"jsonrpc": "2.0", "method": "tasks.count", "id": 1}
    assert http.post("/tasks", json=plain, headers={"Content-Encoding": "identity"}).status_code == 200


def test_too_much_is_refused_while_it_arrives():
    def endless():
        for _ in range(100):
            yield b" " * 1000

    with serving(Settings(max_request_bytes=10_000)) as found, httpx.Client(base_url=found.url) as http:
        answer = http.post("/tasks", content=endless(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, code(answer.json())) == (413, -32010)
        assert http.get("/health").status_code == 200


@pytest.mark.usefixtures("executor")
def test_no_more_runs_are_taken_than_the_limit_says(http: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_MAX_REQUESTED", "1")
    reset_settings()
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute"}
    request |= {"params": {"tasks": [{"name": "server_steps", "inputs": {"waits": True}}]}}
    first = http.post("/tasks", json=request)
    assert first.status_code == 200
    answer = http.post("/tasks", json=request)
    assert (answer.status_code, code(answer.json())) == (429, -32010)
    assert answer.json()["error"]["data"] == {"type": "LimitExceededError", "limit": 1, "user_id": None}
    assert int(answer.headers["Retry-After"]) > 0
    cancelled = rpc(http, "tasks.cancel", {"task_ids": [first.json()["result"]["task_id"]], "force": True})
    assert cancelled["result"][0]["status"] == "cancelled"
    monkeypatch.undo()
    reset_settings()


class FailingStore(MemoryStore):
    """Fails as no store of ours would."""

    error: Exception | None = None

    async def find(self, query: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await super().find(query)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (RuntimeError("SELECT secret FROM tasks"), 200, None),
        (StoreLockedError(Path("/srv/of/ours"), 7), 503, "StoreError"),
    ],
    ids=["unforeseen", "database"],
)
def test_what_was_not_foreseen_is_told_by_an_id_that_is_in_the_log(
    error: Exception, status: int, kind: str | None, caplog: pytest.LogCaptureFixture
):
    db = FailingStore()
    with serving(db=db) as found, httpx.Client(base_url=found.url) as http, caplog.at_level(logging.ERROR):
        db.error = error
        answer = http.post("/tasks", json={"jsonrpc": "2.0", "id": 1, "method": "tasks.list"})
        db.error = None
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (status, -32603)
        assert str(error) not in answer.text
        assert "/srv" not in answer.text
        assert told["data"].keys() == {"incident"} | ({"type"} if kind else set())
        assert told["data"].get("type") == kind
        assert "Traceback" not in answer.text
        assert told["data"]["incident"] in told["message"]
        assert told["data"]["incident"] in caplog.text
        assert http.post("/call/tasks.list", json={}).status_code == 200


def test_a_path_that_is_not_there_and_a_method_that_is_not_allowed_are_told_in_the_same_form(served: Served):
    assert httpx.get(f"{served.url}/nothing").json() == {"error": {"code": -32001, "message": "Not Found"}}
    assert httpx.post(f"{served.url}/tasks/", headers={"Host": "localhost:9"}).status_code == 404
    answer = httpx.get(f"{served.url}/tasks")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_what_is_misspelled_is_answered_with_what_is_meant(http: httpx.Client):
    assert "Did you mean 'tasks.list'?" in rpc(http, "tasks.lst")["error"]["message"]
    violations = rpc(http, "tasks.list", {"statuss": "failed"})["error"]["data"]["violations"]
    assert violations == ["statuss: There is no such parameter. Did you mean 'status'?"]
    for path, advice in (
        ("/call/tasks.lst", "Did you mean 'tasks.list'?"),
        ("/tsks", "Did you mean '/tasks'?"),
        ("/tasks.list", "Send POST /call/tasks.list"),
    ):
        answer = http.post(path, json={})
        assert (answer.status_code, advice in answer.json()["error"]["message"]) == (404, True), path


NUMBERS = ["18446744073709551616", "-9223372036854775809", "1" + "0" * 400, "1e400", "-1e400"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("tasks.create", '[{"name": "a", "inputs": {"items": [{"id": %s}]}}]', r"inputs.items\[0\].id is "),
        ("tasks.create", '[{"name": "a", "priority": %s}]', "priority"),
        ("tasks.create", '[{"name": "a", "policy": {"timeout": %s}}]', "policy.timeout must be"),
        ("tasks.list", '{"limit": %s}', "limit"),
        ("tasks.list", '{"offset": %s}', "offset"),
    ],
)
def test_a_number_that_cannot_be_kept_is_refused_with_its_path(
    http: httpx.Client, number: str, method: str, params: str, path: str
):
    text = f'{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params % number}}}'
    answer = http.post("/tasks", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    error = answer.json()["error"]
    assert error["code"] == -32602
    assert re.search(path, str(error))
    assert len(str(error)) < 3000


@pytest.mark.parametrize("number", NUMBERS)
def test_an_id_that_cannot_be_kept_is_never_changed(http: httpx.Client, number: str):
    text = f'{{"jsonrpc": "2.0", "id": {number}, "method": "system.health"}}'
    answer = http.post("/tasks", content=text, headers={"Content-Type": "application/json"})
    assert answer.json()["id"] in (None, int(number) if number.lstrip("-").isdigit() else None)
    assert "error" in answer.json() or answer.json()["id"] is not None
