from collections.abc import Iterator
from pathlib import Path

import pytest

from apflow.executor.llm.library import load
from apflow.testing.modelserver import ModelServer, model_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore the warnings of pydantic that LiteLLM ignores when it is imported; pytest would raise them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"))


@pytest.fixture(scope="session")
def running() -> Iterator[ModelServer]:
    load()  # outside of the time that any test takes
    with model_server() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running
