"""Fixtures for the tests of the server."""

from collections.abc import Iterator

import httpx
import pytest
from serving import SECRET, Served, serving

from apflow.core.settings import Settings


@pytest.fixture
def served() -> Iterator[Served]:
    """A server without authentication, on a store in memory."""
    with serving() as found:
        yield found


@pytest.fixture
def guarded() -> Iterator[Served]:
    """A server that asks for tokens signed with `SECRET`."""
    with serving(Settings(jwt_secret=SECRET)) as found:
        yield found


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    """A client of `served`."""
    with httpx.Client(base_url=served.url, timeout=10) as client:
        yield client
