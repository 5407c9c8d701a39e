from collections.abc import Iterator

import pytest
from peers.websocket import WebSocketPeer, websocket_peer


@pytest.fixture(scope="session")
def peer() -> Iterator[WebSocketPeer]:
    with websocket_peer() as running:
        yield running
