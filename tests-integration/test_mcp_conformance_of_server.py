"""The conformance suite of MCP against our server, mounted and authenticated as in production."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import httpx
import pytest
from mcp import ClientSession
from peers.mcpservers import mcp_servers

FIXTURES = Path(__file__).parent / "mcp_suite" / "fixtures.py"
# Version 1 of the SDK does not speak 2026-07-28.
REVISIONS = ["2025-11-25", *(["2026-07-28"] if hasattr(ClientSession, "discover") else [])]
START_SECONDS = 60.0
SUITE_SECONDS = 600.0


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the application with the fixtures; yield the address of its endpoint."""
    with create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, str(FIXTURES), str(port)], stdout=output, stderr=output)
    with process:
        try:
            until = time.monotonic() + START_SECONDS
            while not answers(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield f"{url}/mcp"
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


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
