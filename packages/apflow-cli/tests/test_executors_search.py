"""`apflow executors search`: what can be installed."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.extensions.first_party import FIRST_PARTY


def site_with(bare: Any, executor_id: str) -> None:
    """Install a distribution that offers an executor; which may not be importable."""
    metadata = bare.folder / "site" / "elsewhere-1.5.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.5\n")
    (metadata / "entry_points.txt").write_text(f"[apflow.executors]\n{executor_id} = elsewhere:Executor\n")
    bare.environment["PYTHONPATH"] = str(bare.folder / "site")


@pytest.fixture
def missing() -> str:
    """Return the id of an executor that is not installed here."""
    found = [key for key, each in FIRST_PARTY.items() if not each.is_installed]
    if not found:
        pytest.skip("every executor is installed here")
    return found[0]


def test_what_is_not_installed_is_found_with_the_command_that_installs_it(bare: Any, missing: str):
    each = FIRST_PARTY[missing]
    found = bare.json("executors", "search", missing)
    row = {"id": missing, "distribution": each.distribution, "description": each.description}
    assert {**row, "command": f"pip install {each.distribution}"} in found["executors"]
    shown = bare("executors", "search", missing.upper())
    assert f"{missing}  " in shown.stdout
    assert f"pip install {each.distribution}" in shown.stdout


def test_what_is_installed_is_named_beside(bare: Any, missing: str):
    site_with(bare, missing)
    found = bare.json("executors", "search", missing)
    assert missing in found["installed"]
    assert missing not in [each["id"] for each in found["executors"]]
    assert f"Installed already: {missing}" in bare("executors", "search", missing).stderr


def test_words_that_nothing_has_are_answered_with_advice(bare: Any):
    done = bare("executors", "search", "quantum", "computer")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No executor of apflow has these words." in done.stderr
