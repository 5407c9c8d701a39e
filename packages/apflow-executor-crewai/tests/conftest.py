import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.core.extensions.registry import ExtensionCategory, get_registry
from apflow.core.extensions.tools import Tool
from apflow.executor.crewai.library import load
from apflow.executor.llm.library import load as load_litellm
from apflow.testing.modelserver import ModelServer, model_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore warnings of the libraries; pytest would raise them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for kind in ("DeprecationWarning", "PendingDeprecationWarning", "UserWarning", "ImportWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))


@pytest.fixture(scope="session")
def running() -> Iterator[ModelServer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load()  # outside of the time that any test takes
        load_litellm()
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """A model server, which the environment names as OpenAI."""
    running.until(lambda: running.answering == 0)
    running.reset()
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-test")
    monkeypatch.setenv("OPENAI_BASE_URL", running.openai_url)
    return running


@pytest.fixture
def llm(server: ModelServer) -> dict[str, Any]:
    """The model of a crew, at the server."""
    retry = {"max_attempts": 2, "delay": 0.01}
    return {
        "model": "openai/gpt-4o", "api_base": server.openai_url, "api_key": "key-of-test", "retry": retry,
    }  # fmt: skip


class Weather(Tool):
    """Returns the weather, and keeps its inputs."""

    id = "weather"
    name = "Weather"
    description = "The weather in a city."

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def get_input_schema(self) -> dict[str, Any]:
        city = {"type": "string", "description": "The name of the city."}
        return {"type": "object", "properties": {"city": city}, "required": ["city"]}

    async def execute(self, inputs: dict[str, Any]) -> Any:
        self.asked.append(inputs)
        if inputs["city"] == "nowhere":
            raise ValueError("there is no such city")
        return {"weather": "sunny", "degrees": 21}


@pytest.fixture
def weather() -> Iterator[Weather]:
    tool = Weather()
    get_registry().register(tool, override=True)
    yield tool
    get_registry().unregister(tool.id, ExtensionCategory.TOOL)
