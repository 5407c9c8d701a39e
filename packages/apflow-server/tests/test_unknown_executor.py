"""A run that was just asked for fails where no process has its executor: nothing waits for it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

STRANGE: dict[str, dict[str, Any]] = {
    "a misspelt method": {"id": "s", "name": "strange", "schemas": {"method": "nope"}},
    "a misspelt id in params": {"id": "s", "name": "strange", "params": {"executor_id": "nope"}},
    "a leaf without a method": {"id": "s", "name": "nope"},
}


def call(http: httpx.Client, method: str, **params: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return http.post("/tasks", json=request).json()["result"]


@pytest.mark.parametrize("task", STRANGE.values(), ids=list(STRANGE))
def test_a_run_that_is_waited_for_ends(http: httpx.Client, task: dict[str, Any]):
    ended = call(http, "tasks.execute", tasks=[task], wait=True)
    assert (ended["status"], ended["success"]) == ("failed", False)
    assert ended["result"]["error_type"] == "ExecutorNotFound"
    assert "nope" in ended["error"]


@pytest.mark.parametrize("task", STRANGE.values(), ids=list(STRANGE))
def test_one_such_child_does_not_hold_the_tree(http: httpx.Client, task: dict[str, Any]):
    tree = [
        {"id": "r", "name": "group"},
        {"id": "g", "name": "group", "parent_id": "r"},
        {"id": "h", "name": "nothing runs this", "parent_id": "g"},
        {**task, "parent_id": "r"},
    ]
    assert call(http, "tasks.execute", tasks=tree, wait=True)["status"] == "failed"
    states = {each["id"]: each["status"] for each in call(http, "tasks.list", root_only=False)}
    assert states == dict.fromkeys("rghs", "failed")


def test_a_stream_ends_with_the_final_event(http: httpx.Client):
    [task, *_] = STRANGE.values()
    request = {"tasks": [task], "use_streaming": True}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": request}
    with http.stream("POST", "/tasks", json=body) as answer:
        text = "".join(answer.iter_text())
    assert '"streaming":true' in text.replace(" ", "")
    assert "tree_failed" in text
    assert text.replace(" ", "").count('"final":true') == 1
