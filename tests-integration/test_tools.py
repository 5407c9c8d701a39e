"""Each tool is shown a repository that breaks its rule, and must notice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peers.apflowserver import wait_for
from peers.processes import is_alive

ROOT = Path(__file__).resolve().parent.parent
CORE = Path("packages/apflow-core")
NOT_OURS = shutil.ignore_patterns("__pycache__", ".*")
CONFIGURATION = (
    "LICENSE", "CHANGELOG.md", "hatch.toml", "mypy.ini", "constraints.txt", "constraints-crewai.txt",
)  # fmt: skip


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


@pytest.mark.parametrize(
    "name", ["check_packages", "sync", "bump", "constraints", "new_package", "asserted_times"]
)
def test_the_repository_as_it_is_passes(repository: Path, name: str):
    checked = tool(repository, name, "--check")
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


UNDOCUMENTED = """
from typing import Any

class Store:
    def put(self, name: str, data: dict[str, Any], limit: int | None = None) -> None:
        self._check(data)

    def _check(self, data: Any) -> None:
        if not data:
            raise ValueError("no data")
        def later() -> None:
            raise OSError("not by this call")
"""


def test_what_a_docstring_must_say_is_found(tmp_path: Path):
    (tmp_path / "undocumented.py").write_text(UNDOCUMENTED)
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; import public_docstrings as tool, undocumented; "
        "put = undocumented.Store.put; print(*tool.unclear_parameters(put), *tool.raised_by(put))"
    )
    command = [sys.executable, "-c", program, str(ROOT / "tools"), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["data", "limit", "ValueError"]


TIMED = """
import time

def test_a_bound():
    began = time.monotonic()
    assert time.monotonic() - began < 5

async def test_a_name_of_a_bound():
    began = time.perf_counter()
    taken = time.perf_counter() - began
    assert "x" and LIMIT + 2 >= taken

def test_a_ratio():
    def seconds():
        began = time.process_time()
        return time.process_time() - began
    assert seconds() < 40 * seconds()
    taken = time.monotonic() - 1
    assert taken < 40 * seconds()

def test_a_lower_bound():
    began = time.monotonic()
    assert time.monotonic() - began >= 0.2
"""


def test_a_test_that_asserts_a_time_is_noticed(repository: Path):
    (repository / CORE / "tests" / "test_timed.py").write_text(TIMED)
    checked = tool(repository, "asserted_times", "--check")
    assert checked.returncode == 1
    found = [line.split()[1] for line in checked.stdout.splitlines() if "test_timed" in line]
    assert found == ["test_a_bound", "test_a_name_of_a_bound"]


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
    assert ': "import apflow.core"' in source
    (repository / "tools/import_time.py").write_text(
        source.replace(': "import apflow.core"', ': "import asyncio"')
    )
    noticed = tool(repository, "import_time")
    assert noticed.returncode == 1
    assert "imports asyncio" in noticed.stdout


def with_suites(repository: Path, *suites: str) -> Path:
    """Replace the suites of the nightly run."""
    program = repository / "tools/nightly.py"
    before, _, after = program.read_text().partition("SUITES = (")
    rest = after.partition("\ndef run(")[2]
    program.write_text(f"{before}SUITES = ({', '.join(suites)},)\n\n\ndef run({rest}")
    return program


def test_the_nightly_run_covers_every_suite_and_ends_what_exceeds_its_limit(repository: Path):
    """A failure does not stop the suites after it, and the grandchildren of a suite end with it."""
    pid_file = repository / "pid"
    with_suites(
        repository,
        'Suite("good", ("true",), 1)',
        'Suite("bad", ("false",), 1)',
        f'Suite("slow", ("sh", "-c", "sleep 60 & echo $! > {pid_file}; wait"), 0.05)',  # minutes
        'Suite("last", ("true",), 1)',
    )
    finished = tool(repository, "nightly")
    assert finished.returncode == 1
    verdict = finished.stdout.partition("== verdict")[2]
    assert [line.split("(")[0].split() for line in verdict.strip().splitlines()[:4]] == [
        ["good", "passed"], ["bad", "exit", "status", "1"],
        ["slow", "exceeded", "its", "limit", "of", "0", "minutes"], ["last", "passed"],
    ]  # fmt: skip
    assert "FAILED" in verdict
    wait_for(lambda: not is_alive(int(pid_file.read_text())))
    assert tool(repository, "nightly", "--only", "good").stdout.rstrip().endswith("PASSED")


def test_a_terminated_nightly_run_ends_its_suite(repository: Path):
    pid_file = repository / "pid"
    command = f"sleep 60 & echo $! > {pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    program = with_suites(repository, f'Suite("slow", ("sh", "-c", "{command}"), 1)')
    nightly = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.DEVNULL)
    wait_for(lambda: pid_file.exists() or nightly.poll() is not None)
    assert pid_file.exists()
    nightly.terminate()
    assert nightly.wait(30) != 0
    wait_for(lambda: not is_alive(int(pid_file.read_text())))


RELEASE = "import sys; sys.path.insert(0, sys.argv[1]); import release; from pathlib import Path; "


def of_release(expression: str, *arguments: str) -> str:
    """Return what an expression prints that uses `tools/release.py`."""
    command = [sys.executable, "-c", RELEASE + f"print({expression})", str(ROOT / "tools"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("licence", "is_acceptable"),
    [
        ("MIT", "True"),
        ("BSD-3-Clause", "True"),
        ("GPL-2.0-or-later OR Apache-2.0", "True"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "True"),
        ("GPL-3.0-only", "False"),
        ("AGPL-3.0", "False"),
        ("UNKNOWN", "False"),
        ("Limited use", "False"),
    ],
)
def test_a_licence_that_needs_a_decision_is_noticed(licence: str, is_acceptable: str):
    assert of_release("release.is_acceptable(sys.argv[2])", licence) == is_acceptable


def test_a_dependency_that_runs_code_at_each_start_is_noticed(tmp_path: Path):
    """Two versions of a known library stole credentials by such a file."""
    for name, file in {"good": "good/__init__.py", "bad_one": "bad_init.pth", "setuptools": "d.pth"}.items():
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "RECORD").write_text(f"{file},sha256=x,1\n")
    found = of_release("*release.pth_faults(Path(sys.argv[2])), sep='\\n'", str(tmp_path))
    assert found == "bad-one brings bad_init.pth, which runs whenever Python starts"


PROSE = {
    "page.md": "A task is told of this.\n\n`is told` and\n\n```\nis told\n```\n",  # prose: allow
    "docstring.py": '"""A module.\n\nWhoever calls it waits.\n"""\n',  # prose: allow
    "comment.py": "x = 1\n# The lock is held for\n# ever by then.\n",  # prose: allow
    "message.py": 'def f(name):\n    raise ValueError(f"{name} is no folder.")\n',  # prose: allow
    "good.py": '"""Telling."""  # prose: allow\nwhoever = "nobody"\nassert whoever is None\n',
}
PROSE_FOUND = [
    "docs/comment.py:2: 'for ever'",  # prose: allow
    "docs/docstring.py:3: 'Whoever'",  # prose: allow
    "docs/message.py:2: 'is no folder'",  # prose: allow
    "docs/page.md:1: 'is told'",  # prose: allow
]


@pytest.fixture
def written(repository: Path) -> Path:
    """Return a repository whose only prose is `PROSE`."""
    shutil.rmtree(repository / "packages")
    shutil.rmtree(repository / "changelog.d")
    (repository / "CHANGELOG.md").unlink()
    for name, text in PROSE.items():
        (repository / "docs").mkdir(exist_ok=True)
        (repository / "docs" / name).write_text(text)
    return repository


def test_an_expression_of_the_list_is_found_in_each_kind_of_prose_and_not_in_code(written: Path):
    checked = tool(written, "prose", "--check", str(written / "docs"))
    assert checked.returncode == 1, checked.stderr
    assert [line.partition(" (")[0] for line in checked.stdout.splitlines()] == PROSE_FOUND
    assert "(whoever). Write instead: the caller" in checked.stdout  # prose: allow


def test_expressions_are_counted_by_rule(written: Path):
    counted = tool(written, "prose", "--count", str(written / "docs"))
    assert (counted.returncode, counted.stdout.split()[-3:]) == (0, ["4", "in", "total"])
    assert "     1  whoever\n" in counted.stdout  # prose: allow


CHOSEN = """
import sys
sys.path.insert(0, sys.argv[1])
from packaging.version import Version
from resolve import Resolution, faults_of
asked = Resolution("uv", "everything", ["crewai>=1", "litellm>=1"], sys.argv[2])
found = {name: Version(version) for name, version in (each.split("=") for each in sys.argv[3:])}
print(*faults_of(asked, found), sep="\\n")
"""


@pytest.mark.parametrize(
    ("python", "chosen", "fault"),
    [
        ("3.11", ["crewai=1.6.1", "litellm=1.110.2"], "crewai 1.6.1 is older than 1.15.30"),
        ("3.11", ["crewai=1.15.30", "litellm=1.82.8"], "litellm 1.82.8 must never be installed"),
        ("3.11", ["litellm=1.110.2"], "crewai is missing"),
        ("3.14", ["litellm=1.110.2"], ""),
        ("3.11", ["crewai=1.16", "litellm=1.110.2"], ""),
    ],
)
def test_an_old_release_that_an_installer_chooses_is_noticed(python: str, chosen: list[str], fault: str):
    command = [sys.executable, "-c", CHOSEN, str(ROOT / "tools"), python, *chosen]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert fault in shown
    assert bool(fault) == bool(shown)
