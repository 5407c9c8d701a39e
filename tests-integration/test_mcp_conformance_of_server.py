"""The conformance suite of MCP against our server, mounted and authenticated as in production."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
# Of the extension for tasks; no revision requires it.
TASK_SCENARIOS = [
    "tasks-lifecycle", "tasks-capability-negotiation", "tasks-wire-fields", "tasks-request-state-removal",
    "tasks-mrtr-input", "tasks-request-headers", "tasks-dispatch-and-envelope", "tasks-required-task-error",
    "tasks-mrtr-composition",
]  # fmt: skip
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
    with served(tmp_path) as url:
        done = suite(tmp_path, url, "--requirements", revision)
    summary = done.stdout[done.stdout.find("=== SUMMARY") :]
    assert done.returncode == 0, summary + done.stderr
    assert "passed" in summary


@pytest.mark.timeout(SUITE_SECONDS + START_SECONDS)
@pytest.mark.skipif("2026-07-28" not in REVISIONS, reason="takes mcp 2")
def test_no_check_of_the_extension_for_tasks_fails(tmp_path: Path):
    with served(tmp_path) as url, ThreadPoolExecutor(4) as pool:  # most of their time is waiting
        done = list(pool.map(lambda each: suite(tmp_path, url, "--scenario", each), TASK_SCENARIOS))
    failed = [f"{each.stdout}{each.stderr}" for each in done if each.returncode != 0]
    assert not failed, "\n".join(failed)
    assert all(", 0 failed" in each.stdout for each in done)


def suite(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the suite, or a scenario of it."""
    return subprocess.run(
        [*mcp_servers().npm("conformance"), "server", "--url", url, *options, "-o", folder / "checks"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=SUITE_SECONDS,
    )
