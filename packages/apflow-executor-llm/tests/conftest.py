from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.executor.llm import LLMExecutor, executor
from apflow.executor.llm.call import Received
from apflow.executor.llm.library import load
from apflow.testing.modelserver import ModelServer, model_server

OPENAI = "openai/gpt-4o"
ANTHROPIC = "anthropic/claude-sonnet-4-5"
FAST = {"max_attempts": 3, "delay": 0.01, "max_delay": 5}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore the warnings of pydantic that LiteLLM ignores when it is imported; pytest would raise them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"))


@pytest.fixture(scope="session", autouse=True)
def litellm() -> Any:
    """Import LiteLLM once, outside of the time that any test takes."""
    return load()


@pytest.fixture(scope="session")
def running() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.until(lambda: running.answering == 0)
    running.reset()
    return running


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
def model(request: pytest.FixtureRequest) -> str:
    """A model of each protocol."""
    return str(request.param)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Received]:
    """What has been received for each executor that was called, first one first."""
    kept: list[Received] = []

    class Kept(Received):
        def __init__(self) -> None:
            super().__init__()
            kept.append(self)

    monkeypatch.setattr(executor, "Received", Kept)
    return kept


class Asking:
    """Calls a model of the server, and keeps the executor."""

    def __init__(self, server: ModelServer) -> None:
        self.server, self.executor = server, LLMExecutor()

    def inputs(self, model: str, **more: Any) -> dict[str, Any]:
        """Return inputs for a call of a model of the server."""
        base = self.server.anthropic_url if model.startswith("anthropic/") else self.server.openai_url
        given = {"model": model, "api_base": base, "api_key": "key-of-test", "retry": FAST, "timeout": 60}
        return {**given, **({} if "messages" in more else {"prompt": "Hello?"}), **more}

    async def __call__(self, model: str = OPENAI, **more: Any) -> dict[str, Any]:
        self.executor = LLMExecutor()
        return await self.executor.execute(self.inputs(model, **more))


@pytest.fixture
def ask(server: ModelServer) -> Asking:
    return Asking(server)
