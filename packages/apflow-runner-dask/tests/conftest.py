"""A cluster for the tests of this package: two worker processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apflow.runner.dask.cluster import close_local_clusters


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[None]:
    """Close the local cluster that the tests have started."""
    yield
    close_local_clusters()
