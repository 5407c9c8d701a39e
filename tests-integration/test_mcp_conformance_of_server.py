"""The conformance suite of MCP against our server, mounted and authenticated as in production."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mcp import ClientSession
from peers.apflowserver import is_ready, wait_for
from peers.mcpservers import mcp_servers
from peers.ports import free_socket, port_of

FIXTURES = Path(__file__).parent / "mcp_suite" / "fixtures.py"
# Version 1 of the SDK does not speak 2026-07-28.
REVISIONS = ["2025-11-25", *(["2026-07-28"] if hasattr(ClientSession, "discover") else [])]
START_SECONDS = 60.0
SUITE_SECONDS = 600.0


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the application with the fixtures; yield the address of its endpoint."""
    with free_socket() as reserved:
        port = port_of(reserved)
        url, log = f"http://127.0.0.1:{port}", folder / "log"
        with log.open("w") as output:
            command = [sys.executable, str(FIXTURES), str(port)]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        with process:
            try:
                wait_for(lambda: process.poll() is not None or is_ready(url), START_SECONDS)
                assert process.poll() is None, log.read_text()
                yield f"{url}/mcp"
            finally:
                process.terminate()


@pytest.mark.timeout(SUITE_SECONDS + START_SECONDS)
@pytest.mark.parametrize("revision", REVISIONS)
def test_no_check_of_the_conformance_suite_fails(tmp_path: Path, revision: str):
    command = mcp_servers().npm("conformance")
    with served(tmp_path) as url:
        done = subprocess.run(
            [*command, "server", "--url", url, "--requirements", revision, "-o", tmp_path / "checks"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=SUITE_SECONDS,
        )
    summary = done.stdout[done.stdout.find("=== SUMMARY") :]
    assert done.returncode == 0, summary + done.stderr
    assert "passed" in summary
