"""Keys: whose is used, where it goes, and that it is shown nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import TaskCreator, TaskManager, create_session
from apflow.core.permissions.origin import Origin, working_for
from apflow.core.permissions.secret_policy import Author
from apflow.core.service.llm_keys import delete_llm_key, set_llm_key
from apflow.executor.llm import LLMAuthenticationError, LLMExecutor
from apflow.executor.llm.keys import NO_KEY, key_for, without_keys
from apflow.testing.modelserver import ModelServer, Reply

ANN, BOB, ADMIN = Author("ann"), Author("bob"), Author("root", ("admin",))


@pytest.fixture(autouse=True)
def stored() -> Iterator[None]:
    for user in ("ann", "bob"):
        for provider in ("openai", "anthropic"):
            set_llm_key(user, provider, f"stored-{provider}-key-of-{user}")
    yield
    for user in ("ann", "bob"):
        for provider in ("openai", "anthropic"):
            delete_llm_key(user, provider)


def by(*authors: Author) -> Origin:
    return Origin(authors, "llm_executor")


@pytest.mark.parametrize(
    ("given", "api_base", "origin", "key"),
    [
        ("own", "http://a", by(BOB), "own"),
        (None, None, None, "stored-openai-key-of-ann"),
        (None, None, by(BOB), "stored-openai-key-of-ann"),
        (None, "http://a", None, "stored-openai-key-of-ann"),
        (None, "http://a", by(ANN), "stored-openai-key-of-ann"),
        (None, "http://a", by(ANN, ADMIN), "stored-openai-key-of-ann"),
        (None, "http://a", by(ANN, BOB), NO_KEY),
        (None, "http://a", by(BOB), NO_KEY),
    ],
)
def test_a_stored_key_goes_where_its_user_said(
    given: str | None, api_base: str | None, origin: Origin | None, key: str
):
    assert key_for("openai", given, api_base, "ann", origin) == key


def test_the_key_of_the_environment_does_not_go_where_a_client_says():
    assert key_for("openai", None, "http://a", "carl", by(Author("carl"))) == NO_KEY
    assert key_for("openai", None, "http://a", "carl", by(ADMIN)) == NO_KEY
    assert key_for("openai", None, None, "carl", by(Author("carl"))) is None, "LiteLLM takes it"
    assert key_for("openai", None, "http://a", None, None) is None


async def test_many_calls_at_once_each_use_the_key_of_their_user(server: ModelServer, model: str):
    server.default = lambda request: Reply(f"{request.api_key}", first_after=0.05)
    base = server.anthropic_url if model.startswith("anthropic/") else server.openai_url

    async def call(user: str) -> str:
        executor = LLMExecutor()
        executor.user_id = user
        inputs = {"model": model, "prompt": "Who am I?", "api_base": base, "stream": user == "ann"}
        return (await executor.execute(inputs))["content"]

    answers = await asyncio.gather(*(call(user) for user in ["ann", "bob"] * 20))
    provider = model.partition("/")[0]
    assert answers == [f"stored-{provider}-key-of-{user}" for user in ["ann", "bob"] * 20]


async def test_the_environment_comes_last(
    ask: Any, server: ModelServer, model: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-environment")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-of-environment")
    await ask(model, api_key=None)
    assert server.requests[-1].api_key == "key-of-environment"
    with working_for(by(Author("carl"))):
        await ask(model, api_key=None)
    assert server.requests[-1].api_key == NO_KEY


async def test_without_any_key_the_error_says_how_to_give_one(
    ask: Any, server: ModelServer, model: str, monkeypatch: pytest.MonkeyPatch
):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LLMAuthenticationError, match="Give the key as api_key"):
        await ask(model, api_key=None)
    assert server.requests == []


async def test_a_key_is_shown_nowhere(
    server: ModelServer, model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    stored, secret = f"stored-{model.partition('/')[0]}-key-of-ann", "key-that-is-a-secret"
    monkeypatch.setenv("APFLOW_SECRET_MODEL", secret)
    server.default = lambda request: Reply(f"Incorrect API key provided: {request.api_key}", status=401)
    base = server.anthropic_url if model.startswith("anthropic/") else server.openai_url
    inputs: dict[str, Any] = {"model": model, "prompt": "Hi", "api_base": base}
    tasks: list[dict[str, Any]] = [
        {"id": "root", "name": "llm_executor", "user_id": "ann", "inputs": inputs},
        {
            "id": "other",
            "parent_id": "root",
            "name": "llm_executor",
            "user_id": "ann",
            "inputs": inputs | {"api_key": {"$secret": "MODEL"}},
        },
    ]
    async with create_session("memory://shown") as db:
        tree = await TaskCreator(db).create_task_tree_from_array(tasks)
        await TaskManager(db).distribute_task_tree(tree)
        shown = str([task.to_dict() for task in await db.tree("root")])
        shown += str([event.to_dict() for event in await db.events("root")])
    assert {request.api_key for request in server.requests} == {stored, secret}
    assert shown.count("LLMAuthenticationError") >= 2
    assert "Incorrect API key provided: ***" in shown
    for text in (shown, caplog.text):
        assert stored not in text
        assert secret not in text


def test_the_keys_of_the_environment_are_masked_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GROQ_API_KEY", "gsk-0123456789")
    assert without_keys("bad: gsk-0123456789, own-key-1", ["own-key-1", None, "x"]) == "bad: ***, ***"
