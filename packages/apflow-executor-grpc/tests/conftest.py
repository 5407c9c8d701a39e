from collections.abc import AsyncIterator

import pytest_asyncio
from peers.grpcserver import Peer, serve


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    """A server that describes itself, by the older version of reflection."""
    async with serve() as running:
        yield running
