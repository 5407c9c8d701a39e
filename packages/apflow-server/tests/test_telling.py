"""A server of a single-process database announces its address to commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import serve_process

from apflow.server.http.listening import Place, local_url


def test_a_database_in_memory_has_no_file(tmp_path: Path):
    with serve_process(tmp_path, environment={"APFLOW_DATABASE_URL": "memory://"}) as process:
        assert process.end() == 0
    assert list(tmp_path.glob("*.server")) == []


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("127.0.0.5", "http://127.0.0.5:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
    ],
)
def test_commands_are_told_of_loopback_addresses_only(host: str, url: str | None):
    assert local_url(Place(host, 8000)) == url
