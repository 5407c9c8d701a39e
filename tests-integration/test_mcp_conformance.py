"""The executor as a client, in the conformance suite of the protocol."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from peers.mcpservers import mcp_servers

CLIENT = Path(__file__).parent / "peers" / "mcpclient.py"
SCENARIOS = [
    ("initialize", "2025-11-25"),
    ("tools_call", "2025-11-25"),
    ("sse-retry", "2025-11-25"),
    ("json-schema-2020-12-preservation", "2025-11-25"),
    ("tools_call", "2026-07-28"),
    ("request-metadata", "2026-07-28"),
    ("http-standard-headers", "2026-07-28"),
    ("auth/client-credentials-basic", None),  # of an extension, which no version contains
]


@pytest.mark.parametrize(("scenario", "version"), SCENARIOS)
def test_the_executor_passes_a_scenario(scenario: str, version: str | None, tmp_path: Path):
    if version == "2026-07-28" and find_spec("mcp_types") is None:
        pytest.skip("takes mcp 2")
    servers = mcp_servers()
    suite = servers.folder / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [str(servers.node), str(suite), "client", "--scenario", scenario]
    command += [] if version is None else ["--spec-version", version]
    client = f"{sys.executable} -P {CLIENT}"
    done = subprocess.run(
        [*command, "--command", client, "--timeout", "100000", "--output-dir", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "OVERALL: PASSED" in said, said
    assert ", 0 failed" in said, said
