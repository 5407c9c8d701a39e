"""The files in `deploy` that no other test runs: the systemd unit, and the settings that they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apflow.core.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy" / "systemd" / "apflow.service"
FILES = [each for each in (ROOT / "deploy").rglob("*") if each.is_file()]


def verified(folder: Path, unit: str) -> subprocess.CompletedProcess[str]:
    """Verify a unit whose program is one that exists here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("systemd-analyze is not installed.")
    file = folder / UNIT.name
    file.write_text(unit.replace("/opt/apflow/bin/apflow", f"{sys.executable} -m apflow.cli"))
    return subprocess.run(
        [str(analyze), "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_systemd_accepts_the_unit(tmp_path: Path):
    accepted = verified(tmp_path, UNIT.read_text())
    about_ours = [line for line in accepted.stderr.splitlines() if UNIT.name in line]
    assert (accepted.returncode, about_ours) == (0, [])


def test_systemd_refuses_a_unit_with_a_mistake(tmp_path: Path):
    refused = verified(tmp_path, UNIT.read_text().replace("KillMode=mixed", "KillModes=mixed"))
    assert "KillModes" in refused.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda each: str(each.relative_to(ROOT)))
def test_the_files_name_existing_settings(file: Path):
    named = set(re.findall(r"APFLOW_[A-Z_]*[A-Z]", file.read_text())) - {"APFLOW_NAME"}
    assert named - VARIABLES == set()
