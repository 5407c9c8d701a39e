"""The network policy holds for every provider that is said to be guarded."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.errors import AddressRefusedError, SecretHostRefusedError
from apflow.core.permissions.origin import Origin, working_for
from apflow.core.permissions.secret_policy import Author, Permission
from apflow.executor.llm import LLMExecutor, LLMInputError
from apflow.executor.llm.providers import BY_HANDLER, BY_SESSION, Provider, check_unguarded, provider_of
from apflow.testing.modelserver import ModelServer

# Providers whose models or arguments must be real before anything is sent.
MODELS = {"bedrock": "bedrock/anthropic.claude-3-haiku-20240307-v1:0"}
ARGUMENTS: dict[str, dict[str, Any]] = {"azure": {"api_version": "2025-01-01"}}


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION_NAME", "eu-west-1")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", sorted(BY_HANDLER | BY_SESSION))
async def test_a_guarded_provider_connects_only_where_the_policy_permits(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, litellm: Any, name: str, stream: bool
):
    model = MODELS.get(name, f"{name}/some-model")
    if name == "custom_openai":
        monkeypatch.setenv("CUSTOM_OPENAI_API_KEY", "k")
    assert provider_of(litellm, model, server.openai_url).name == name
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    inputs = {
        "model": model,
        "prompt": "Hi",
        "api_base": server.openai_url,
        "api_key": "key-of-test",
        "stream": stream,
        **ARGUMENTS.get(name, {}),
    }
    with pytest.raises(AddressRefusedError):
        await LLMExecutor().execute(inputs)
    assert server.requests == []


async def test_a_secret_goes_only_to_the_hosts_that_it_is_granted_for(
    ask: Any, server: ModelServer, model: str
):
    origin = Origin((Author("ann"),), "llm_executor", can_bind=True)
    origin.permissions["MODEL"] = Permission(("api.example.com",))
    with working_for(origin), pytest.raises(SecretHostRefusedError):
        await ask(model)
    assert server.requests == []


UNGUARDED = Provider("strange", takes_handler=False, is_guarded=False)


async def test_what_connects_by_itself_is_checked_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    await check_unguarded(UNGUARDED, None)
    with pytest.raises(AddressRefusedError):
        await check_unguarded(UNGUARDED, "http://127.0.0.1/v1")
    with working_for(Origin((Author("ann"),), "llm_executor")):
        await check_unguarded(UNGUARDED, None)
        with pytest.raises(LLMInputError, match="connects by itself"):
            await check_unguarded(UNGUARDED, "https://api.example.com")
    bound = Origin(None, "llm_executor", permissions={"KEY": Permission(("api.example.com",))})
    with working_for(bound), pytest.raises(LLMInputError, match="granted for certain hosts"):
        await check_unguarded(UNGUARDED, None)
