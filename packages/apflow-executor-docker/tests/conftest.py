from collections.abc import Iterator

import pytest
from peers.engine import Engine, docker_engine

__all__ = ["docker_engine"]


@pytest.fixture
def engine(docker_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give the engine that the executor uses. After each test no container may be left there."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    yield docker_engine
    assert docker_engine.containers() == []
