"""The files in `deploy` that no other test runs: the systemd units, and the settings that they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from peers import required
from peers.ports import free_socket, port_of

from apflow.core.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
FILES = [each for each in (ROOT / "deploy").rglob("*") if each.is_file()]


def verified(file: Path, unit: str) -> subprocess.CompletedProcess[str]:
    """Verify a unit whose program is one that exists here."""
    analyze = required.program("systemd-analyze")
    file.write_text(unit.replace("/opt/apflow/bin/apflow", f"{sys.executable} -m apflow.cli"))
    return subprocess.run(
        [analyze, "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("unit", UNITS, ids=lambda each: each.name)
def test_systemd_accepts_a_unit_and_refuses_it_with_a_mistake(unit: Path, tmp_path: Path):
    file = tmp_path / unit.name.replace("@", "@gpu")  # what a template is verified as
    accepted = verified(file, unit.read_text())
    about_ours = [line for line in accepted.stderr.splitlines() if file.name in line]
    assert (accepted.returncode, about_ours) == (0, [])
    refused = verified(file, unit.read_text().replace("KillMode=mixed", "KillModes=mixed"))
    assert "KillModes" in refused.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda each: str(each.relative_to(ROOT)))
def test_the_files_name_existing_settings(file: Path):
    named = set(re.findall(r"APFLOW_[A-Z_]*[A-Z]", file.read_text())) - {"APFLOW_NAME"}
    assert named - VARIABLES == set()


class Healthy(BaseHTTPRequestHandler):
    """Answers like a healthy server."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


@pytest.mark.parametrize(("address", "bind"), [("127.0.0.1", "0.0.0.0"), ("127.0.0.2", "127.0.0.2")])
def test_the_check_of_the_container_asks_where_the_server_listens(address: str, bind: str):
    with ThreadingHTTPServer((address, 0), Healthy) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            found = check_health(f"{bind}:{server.server_port}")
        finally:
            server.shutdown()
            serving.join()
    assert (found.returncode, found.stderr) == (0, "")
    with free_socket(address) as closed:
        assert check_health(f"{bind}:{port_of(closed)}").returncode == 1


def check_health(bind: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "container" / "healthcheck.py")],
        env=os.environ | {"APFLOW_BIND": bind},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
