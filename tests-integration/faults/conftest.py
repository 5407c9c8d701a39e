"""The workers' modules are importable here as in the workers: by the names `faultkit` and `clusterkit`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from apflow.testing.postgresserver import Server, a_server

sys.path.insert(0, str(Path(__file__).parent))

DURABLE = "max_connections = 100\nshared_buffers = 64MB\nmax_wal_size = 1GB\n"  # every commit is on disk


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A PostgreSQL for one module, that may be stopped and killed."""
    with a_server(settings=DURABLE) as server:
        yield server
