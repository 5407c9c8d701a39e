from collections.abc import Iterator

import pytest
from peers.apflowserver import ApflowServer, apflow_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApflowServer]:
    with apflow_server(tmp_path_factory.mktemp("far")) as running:
        yield running
