"""Each tool is shown a repository that breaks its rule, and must notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("packages/apflow-core")
NOT_OURS = shutil.ignore_patterns("__pycache__", ".*")
CONFIGURATION = ("LICENSE", "CHANGELOG.md", "hatch.toml", "mypy.ini", "constraints.txt")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy to break."""
    for folder in ("packages", "tools", "changelog.d"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=NOT_OURS)
    for file in CONFIGURATION:
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def tool(repository: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "tools" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["check_packages", "sync", "bump", "constraints", "new_package"])
def test_the_repository_as_it_is_passes(repository: Path, name: str):
    checked = tool(repository, name, "--check")
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_file_in_the_shared_namespace_is_noticed(repository: Path):
    (repository / CORE / "src/apflow/__init__.py").touch()
    assert "breaks every other distribution" in tool(repository, "check_packages").stdout


def test_an_import_that_is_not_declared_is_noticed(repository: Path):
    (repository / CORE / "src/apflow/core/extra.py").write_text("import requests\n")
    assert "does not declare requests" in tool(repository, "check_packages").stdout


def test_a_second_reader_of_metadata_is_noticed(repository: Path):
    (repository / CORE / "src/apflow/core/extra.py").write_text("from importlib import metadata\n")
    assert "only apflow.core.plugins" in tool(repository, "check_packages").stdout


def test_an_entry_point_to_nowhere_is_noticed(repository: Path):
    pyproject = repository / "packages/apflow-storage-duckdb/pyproject.toml"
    edit(pyproject, "apflow.storage.duckdb:", "apflow.storage.elsewhere:")
    assert "does not exist" in tool(repository, "check_packages").stdout


def test_a_requirement_without_a_floor_is_noticed(repository: Path):
    edit(repository / CORE / "pyproject.toml", '"orjson>=', '"orjson<')
    checked = tool(repository, "check_packages")
    assert checked.returncode == 1
    assert "has no floor" in checked.stdout


def test_an_environment_that_holds_too_little_is_noticed(repository: Path):
    edit(
        repository / "hatch.toml",
        '"packages/apflow-storage-sql", "packages/apflow-core"',
        '"packages/apflow-core"',
    )
    assert "hatch.toml: environment storage-" in tool(repository, "check_packages").stdout


def test_sync_notices_what_is_out_of_step_and_repairs_it(repository: Path):
    (repository / CORE / "LICENSE").write_text("mine")
    edit(repository / "packages/apflow-cli/pyproject.toml", 'version = "', 'version = "7')
    noticed = tool(repository, "sync", "--check")
    assert noticed.returncode == 1
    assert "apflow-core/LICENSE" in noticed.stdout
    assert "apflow-cli/pyproject.toml" in noticed.stdout
    tool(repository, "sync")
    assert tool(repository, "sync", "--check").returncode == 0


def test_a_release_sets_every_version_and_collects_the_fragments(repository: Path):
    (repository / "changelog.d/doors.fixed.md").write_text("Doors close.\n")
    assert tool(repository, "bump", "9.8.7").returncode == 0
    _, heading, release = (repository / "CHANGELOG.md").read_text().partition("## 9.8.7")
    assert heading
    assert "- Doors close.\n" in release.partition("### Fixed\n\n")[2]
    assert [each.name for each in (repository / "changelog.d").iterdir()] == ["README.md"]
    for name in ("check_packages", "sync"):
        assert tool(repository, name, "--check").stdout == ""
    assert '"apflow-core==9.8.7"' in (repository / "packages/aipartnerupflow/pyproject.toml").read_text()


def test_a_fragment_of_an_unknown_kind_is_noticed(repository: Path):
    (repository / "changelog.d/doors.md").write_text("Doors close.\n")
    assert "changelog.d/doors.md" in tool(repository, "bump", "--check").stdout


def test_a_requirement_that_no_constraint_pins_is_noticed(repository: Path):
    edit(repository / CORE / "pyproject.toml", '"orjson>=', '"ujson>=5", "orjson>=')
    assert "ujson is missing" in tool(repository, "constraints", "--check").stdout


@pytest.mark.parametrize("name", ["apflow-executor-tea-pot", "apflow-greenhouse"])
def test_a_new_package_passes_every_check(repository: Path, name: str):
    made = tool(repository, "new_package", name, "Makes tea")
    assert made.returncode == 0, made.stderr
    checked = tool(repository, "check_packages")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_a_slow_import_at_the_start_is_noticed(repository: Path):
    source = (repository / "tools/import_time.py").read_text()
    assert "import apflow.core" in source
    (repository / "tools/import_time.py").write_text(
        source.replace('("import apflow.core", SLOW)', '("import asyncio", SLOW)')
    )
    noticed = tool(repository, "import_time")
    assert noticed.returncode == 1
    assert "imports asyncio" in noticed.stdout


def nightly(repository: Path, code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the nightly suites where `hatch` is a stand-in that obeys a shell script."""
    hatch = folder / "hatch"
    hatch.write_text(f'#!/bin/sh\necho "$@"\n{code}\n')
    hatch.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    command = [
        sys.executable,
        str(repository / "tools" / "nightly.py"),
        "--logs",
        str(folder / "logs"),
        *arguments,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )


def test_the_nightly_suites_have_one_verdict(repository: Path, tmp_path: Path):
    done = nightly(repository, "exit 0", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("PASSED: faults, long, bench, floors, versions\n")
    assert (tmp_path / "logs" / "bench.txt").read_text() == "run bench --quick\n"


def test_a_nightly_suite_that_fails_keeps_no_other_from_running(repository: Path, tmp_path: Path):
    done = nightly(repository, '[ "$2" != long ] || { echo "a test fails"; exit 3; }', tmp_path)
    assert done.returncode == 1
    assert "  | a test fails" in done.stdout
    assert "failed with exit status 3" in done.stdout
    assert done.stdout.count("passed, ") == 4
    assert done.stdout.endswith("FAILED: long\n")


def test_some_nightly_suites_may_be_chosen(repository: Path, tmp_path: Path):
    done = nightly(repository, "exit 0", tmp_path, "--only", "bench", "--only", "floors")
    assert done.stdout.endswith("PASSED: bench, floors\n")


def test_a_nightly_suite_that_takes_too_long_is_stopped(repository: Path, tmp_path: Path):
    code = (
        "import sys, nightly as n\n"
        "n.SUITES = (n.Suite('slow', ['sh', '-c', 'sleep 300 & wait'], 0.01), n.Suite('next', ['true'], 1))\n"
        f"sys.argv = ['nightly', '--logs', {str(tmp_path)!r}]\n"
        "sys.exit(n.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository / "tools",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "stopped after 0.0 minutes" in done.stdout
    assert done.stdout.endswith("FAILED: slow\n")
