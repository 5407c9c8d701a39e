"""What `apflow doctor` finds in installed files and around a database."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apflow.cli.commands import doctor_database
from apflow.cli.commands.doctor_database import find_permissions, find_room
from apflow.cli.commands.doctor_files import InstalledFiles, find_problems


def installed(folder: Path, name: str, *files: str, version: str = "1.0") -> InstalledFiles:
    """Return a distribution whose files are in a folder; those that are missing there are created."""
    found = {}
    for each in files:
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(f"{name} {each}")
        digest = hashlib.sha256(f"{name} {each}".encode()).digest()
        found[path] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    package = frozenset(each for each in found if each.is_relative_to(folder / "apflow"))
    return InstalledFiles(name, version, found, package)


def test_whole_distributions_have_no_problem(tmp_path: Path):
    core = installed(tmp_path, "apflow-core", "apflow/core/a.py", "apflow/core/b.py")
    cli = installed(tmp_path, "apflow-cli", "apflow/cli/a.py", "bin/apflow")
    assert find_problems([core, cli], [tmp_path / "apflow"]) == []


def test_another_product_in_the_package_is_named_with_what_it_replaced(tmp_path: Path):
    core = installed(tmp_path, "apflow-core", "apflow/core/a.py")
    cli = installed(tmp_path, "apflow-cli", "bin/apflow")
    (tmp_path / "apflow/core/a.py").write_text("apflow apflow/core/a.py")
    (tmp_path / "bin/apflow").write_text("apflow bin/apflow")
    other = installed(
        tmp_path, "apflow", "apflow/__init__.py", "apflow/core/a.py", "bin/apflow", version="9.9"
    )
    found = find_problems([core, cli, other], [tmp_path / "apflow"])
    assert len(found) == 4
    assert "apflow 9.9 is another product, and has 2 files in the package apflow" in found[0]
    assert "pip uninstall apflow." in found[0]
    assert "--force-reinstall --no-deps apflow-cli apflow-core" in found[0]
    assert "__init__.py belongs to another product" in found[1]
    assert "1 file of apflow-core 1.0 is missing, or was replaced" in found[2]
    assert "apflow-cli" in found[3]


def test_files_that_are_missing_are_named(tmp_path: Path):
    core = installed(tmp_path, "apflow-core", *(f"apflow/core/{n}.py" for n in range(5)))
    for n in range(4):
        (tmp_path / f"apflow/core/{n}.py").unlink()
    [found] = find_problems([core], [])
    assert "4 files of apflow-core" in found
    assert "0.py" in found
    assert "3.py" not in found


def test_a_foreign_distribution_is_found_in_an_environment(tmp_path: Path):
    """The files of a distribution as installers leave them, on Python's path."""
    info = tmp_path / "apflow-7.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: apflow\nVersion: 7.0\n")
    (info / "RECORD").write_text("apflow/strange.py,,\napflow-7.0.dist-info/METADATA,,\n")
    (tmp_path / "apflow").mkdir()
    (tmp_path / "apflow/strange.py").write_text("")
    text = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from apflow.cli.commands.doctor_files import *\n"
        "print(find_problems(installed_files(), namespace_directories()))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert "apflow 7.0 is another product, and has 1 file in" in done.stdout


def test_room_and_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "new" / "tasks.duckdb"
    assert find_room(file)[0]
    assert find_permissions(file) == (True, f"{file} does not exist yet; it can be created")
    file.parent.mkdir()
    file.write_text("x")
    file.chmod(0o666)
    assert find_permissions(file)[1].endswith(f"chmod 600 {file}")
    assert not find_permissions(file)[0]
    file.chmod(0o644)
    assert find_permissions(file) == (
        True, f"other users can read {file} (mode 644); chmod 600 keeps it private",
    )  # fmt: skip
    file.chmod(0o600)
    assert find_permissions(file) == (True, f"{file} (mode 600)")
    monkeypatch.setattr(doctor_database.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5}))
    is_good, detail = find_room(file)
    assert not is_good
    assert "have at least 0.1 GB" in detail


def checks(apflow: Any, code: int = 0, **environment: str) -> dict[str, dict[str, Any]]:
    apflow.environment |= environment
    return {each["name"]: each for each in apflow.json("doctor", code=code)["checks"]}


def test_secrets_that_tasks_name_and_that_are_not_set(apflow: Any):
    assert checks(apflow)["secrets"]["detail"] == "0 named by 0 tasks that have not ended, all set"
    tasks = (
        '[{"id": "one", "name": "one", "schemas": {"method": "add"}, "inputs": {"a": {"$secret": "PASS"}}}]'
    )
    assert apflow("tasks", "create", "--tasks", tasks).returncode == 0
    found = checks(apflow, code=1)["secrets"]
    assert found["detail"].startswith("Not set: PASS, named by one.")
    assert checks(apflow, APFLOW_SECRET_PASS="x")["secrets"]["is_good"]


def test_what_surrounds_the_database_is_shown(apflow: Any):
    found = checks(apflow)
    assert {"files", "disk", "permissions", "holder", "daemon", "secrets"} <= set(found)
    assert found["holder"]["detail"] == "no process has the database open"
    assert found["daemon"]["detail"] == "does not run"
    process = apflow.start("worker", "--import", "works")
    try:
        assert process.stderr.readline().startswith("Running what is submitted to ")
        assert f"process {process.pid} (" in checks(apflow)["holder"]["detail"]
    finally:
        process.kill()
        process.communicate()
