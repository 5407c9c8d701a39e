import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from peers.mcphttp import McpPeer, mcp_peer
from peers.mcprunning import Program

from apflow.core.settings import reset_settings
from apflow.executor.mcp.pool import close_connections


@pytest.fixture(scope="session")
def peer() -> Iterator[McpPeer]:
    with mcp_peer() as running:
        yield running


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow the interpreter of the tests, which runs the servers."""
    monkeypatch.setenv("APFLOW_COMMAND_ALLOW", sys.executable)
    reset_settings()
    yield
    reset_settings()


@pytest.fixture
async def program(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Program]:
    """Give a server on standard input and output; what runs of it at the end of the test is ended."""
    yield Program(tmp_path_factory.mktemp("mcp") / "record.jsonl")
    await close_connections()
