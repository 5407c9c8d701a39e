from collections.abc import Iterator

import pytest
from peers.a2aagent import A2aAgent, a2a_agent


@pytest.fixture(scope="session")
def agent() -> Iterator[A2aAgent]:
    """An agent with all transports of A2A 1.0, JSON-RPC first."""
    with a2a_agent() as running:
        yield running


@pytest.fixture
def own_agent() -> Iterator[A2aAgent]:
    """An agent as `agent` is, for one test."""
    with a2a_agent() as running:
        yield running
