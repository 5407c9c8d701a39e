from collections.abc import Iterator

import pytest
from peers.http import HttpPeer, http_peer


@pytest.fixture(scope="session")
def peer() -> Iterator[HttpPeer]:
    with http_peer() as running:
        yield running
