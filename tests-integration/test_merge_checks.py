"""`.ci/run` runs every step, some beside one another, and fails if one fails. Its tools are stand-ins."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers.apflowserver import wait_for
from peers.processes import is_alive

ROOT = Path(__file__).resolve().parent.parent
STEPS = (
    "run test",
    "run executor-crewai:check",
    "run dev:check",
    "run test packages/apflow-storage-postgres tests-integration/test_several_processes.py",
    "run docs:build",
    "run executor-crewai:test -n 2 --dist loadfile",
    "run resolve --only everything",
    "run wheels",
)
AGAIN = "run test -n 1 --last-failed --last-failed-no-failures none"
# A step that fails says so; one that hangs writes its process ID.
HATCH = """#!/bin/sh
echo "$*" >> "$PLACE/steps"
[ "$*" != "run test" ] || echo "=== test session starts ==="
[ "$*" != "$HANGS" ] || { echo $$ > "$PLACE/pid.new"; mv "$PLACE/pid.new" "$PLACE/pid"; exec sleep 60; }
echo "output of $*"
[ "$*" != "run test" ] || echo "=== ${CLOSING} in 0.01s ==="
case "$CLOSING $*" in *failed*"run test") mkdir -p .pytest_cache/v/cache
    echo '{"test_x.py::test_y": true}' > .pytest_cache/v/cache/lastfailed
    exit 1 ;; esac
[ "$*" != "$FAILS" ] || exit 7
"""
PYTHON = """#!/bin/sh
[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$PLACE/bin/python" "$PLACE/bin/hatch" "$3/bin"; }
"""
# Looked for by name alone, and not run.
OF_THE_SYSTEM = ("chromium", "dockerd", "busybox", "sshd", "ip", "nginx", "systemd-analyze", "strace")


@dataclass
class Checks:
    """A copy of the script, and stand-ins for the programs that it runs."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", self.folder / ".ci" / "run")
        shutil.copy(ROOT / "README.md", self.folder / "README.md")
        self.program("hatch", HATCH)
        for name in ("python", "python3.11"):
            self.program(name, PYTHON)
        self.program(
            "pg_virtualenv", '#!/bin/sh\nshift 4\nexport PGUSER= PGPASSWORD= PGHOST= PGPORT=\nexec "$@"\n'
        )
        for name in OF_THE_SYSTEM:
            self.program(name, "#!/bin/sh\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *, fails: str = "", hangs: str = "", closing: str = "3 passed") -> subprocess.Popen[str]:
        own = {"PLACE": str(self.folder), "FAILS": fails, "HANGS": hangs, "CLOSING": closing}
        own["TMPDIR"] = str(self.folder / "tmp")
        (self.folder / "tmp").mkdir()
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", ".ci/run"],
            cwd=self.folder,
            env={**os.environ, **own, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def steps(self) -> list[str]:
        """The commands of hatch that ran."""
        return (self.folder / "steps").read_text().splitlines()


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    return Checks(tmp_path)


def test_every_step_runs_once_and_the_tests_have_the_last_word(checks: Checks):
    with checks.start() as running:
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    assert sorted(checks.steps) == sorted(STEPS)
    assert [output.count(f"output of {step}\n") for step in STEPS] == [1] * len(STEPS)
    assert output.endswith("== done\n=== 3 passed in 0.01s ===\n")
    assert not list((checks.folder / "tmp").iterdir())


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_fails_the_run(checks: Checks, step: str):
    with checks.start(fails=step) as running:
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 7, output
    assert f"output of {step}\n" in output
    assert "== done" not in output
    assert not list((checks.folder / "tmp").iterdir())


def test_a_few_tests_that_fail_and_then_pass_alone_are_named_and_hold_nothing_back(checks: Checks):
    with checks.start(closing="1 failed, 2 passed, 1 error") as running:
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    assert checks.steps.count(AGAIN) == 3
    assert set(STEPS) < set(checks.steps)
    assert "== UNSTABLE" in output
    assert '{"test_x.py::test_y": true}\n\n== done\n' in output
    assert output.endswith("=== 1 failed, 2 passed, 1 error in 0.01s ===\n")


def test_tests_that_fail_again_alone_fail_the_run(checks: Checks):
    with checks.start(closing="3 failed, 2 passed", fails=AGAIN) as running:
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 7, output
    assert checks.steps.count(AGAIN) == 1
    assert "== done" not in output


def test_more_than_three_tests_that_fail_fail_the_run_at_once(checks: Checks):
    with checks.start(closing="3 failed, 2 passed, 1 error") as running:
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 1, output
    assert AGAIN not in checks.steps


@pytest.mark.parametrize("step", ["run executor-crewai:check", "run dev:check", "run wheels"])
def test_what_runs_beside_the_tests_ends_with_a_run_that_is_terminated(checks: Checks, step: str):
    with checks.start(hangs=step) as running:
        wait_for((checks.folder / "pid").exists)
        running.terminate()
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM, output
    pid = int((checks.folder / "pid").read_text())
    wait_for(lambda: not is_alive(pid))
