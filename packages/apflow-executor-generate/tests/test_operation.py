"""The operation `tasks.generate` and the command `apflow generate task-tree`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apflow.core.errors import ForbiddenError, GenerationFailedError
from apflow.core.permissions.secret_policy import Author
from apflow.core.service.llm_keys import delete_llm_key, set_llm_key
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.memory import MemoryStore
from apflow.testing.modelserver import ModelServer, Reply

TASKS: list[dict[str, Any]] = [
    {"id": "all", "name": "Everything"},
    {
        "id": "one",
        "name": "Ask",
        "parent_id": "all",
        "schemas": {"method": "llm_executor"},
        "inputs": {"model": "openai/x", "prompt": "Hi"},
    },
]


@pytest.fixture(autouse=True)
def address(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-environment")
    server.default = Reply(json.dumps({"tasks": TASKS}))


async def test_the_operation_generates_and_creates_nothing_unless_asked(server: ModelServer):
    async with MemoryStore() as store:
        operation, service = OPERATIONS["tasks.generate"], TaskService(store)
        found: Any = await operation.call(
            service,
            {"requirement": "Ask.", "llm_provider": "openai", "llm_model": "gpt-4", "max_tokens": 100},
        )
        assert (found["tasks"], found["count"]) == (TASKS, 2)
        assert "root_task_id" not in found
        assert await service.list() == []
        saved: Any = await operation.call(service, {"requirement": "Ask.", "save": True})
        tree = await service.tree(saved["root_task_id"])
    assert [child["status"] for child in tree["children"]] == ["pending"]
    assert [request.body["model"] for request in server.requests] == ["gpt-4", "gpt-4o"]


async def test_a_caller_uses_its_own_key_and_generates_for_itself(server: ModelServer):
    set_llm_key("ann", "openai", "key-of-ann")
    try:
        async with MemoryStore() as store:
            ann = TaskService(store, "ann", author=Author("ann"))
            saved = await ann.generate("Ask.", save=True)
            with pytest.raises(ForbiddenError):
                await ann.generate("Ask.", user_id="bob")
            [root] = await store.get([saved["root_task_id"]])
            stored = (await store.get([root]))[root]
    finally:
        delete_llm_key("ann", "openai")
    assert stored.user_id == "ann"
    assert [request.api_key for request in server.requests] == ["key-of-ann"]


async def test_what_went_wrong_is_said(server: ModelServer):
    server.default = Reply("No.")
    async with MemoryStore() as store:
        with pytest.raises(GenerationFailedError, match="no valid answer after 3 calls") as caught:
            await TaskService(store).generate("Ask.")
    assert caught.value.error_type == "LLMAnswerInvalidError"
