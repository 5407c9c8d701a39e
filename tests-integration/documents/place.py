"""Where a page runs: a separate home and database, and only the packages that it names."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from installing import (
    CONSTRAINTS,
    CONSTRAINTS_CREWAI,
    CREWAI,
    Environment,
    Wheel,
    Wheels,
    must_run,
    new_environment,
)

from documents.frames import Frame, frame_of
from documents.page import SHELLS, Block, Page

FUNCTIONS = r"""
set -eu -o pipefail
end() {
    status=$?
    if [ -d ~/.local/state/apflow/daemons ]; then apflow daemon stop --force > /dev/null 2>&1 || true; fi
    kill $(jobs -p) 2> /dev/null || true
    wait
    exit $status
}
trap end EXIT
# uv installs from its cache, by links.
pip() { uv pip "$@"; }
python() { if [ "${1-} ${2-}" = "-m pip" ]; then shift 2; uv pip "$@"; else command python "$@"; fi; }
curl() { command curl --fail --silent --show-error "$@"; }
# Wait until a condition holds, for two minutes.
waits() {
    for _ in $(seq 1200); do if eval "$1"; then return; fi; sleep 0.1; done
    echo "not met: $1" >&2; return 1
}
background() { "$@" < /dev/null & }
serving() {
    "$@" < /dev/null &
    waits 'command curl -sf "http://127.0.0.1:$PORT/ready" > /dev/null'
}
# End what runs in the background and has been started by a command.
ended() { for each in $(jobs -p); do
    if tr '\0' ' ' < "/proc/$each/cmdline" | grep -q "$1"; then kill "$each"; wait "$each" || true; fi
done; }
gives() { expected=$1; shift; found=0; "$@" || found=$?; [ "$found" = "$expected" ]; }
receiver() { command python - "$RECEIVER" <<'END' &
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Received(BaseHTTPRequestHandler):
    def do_POST(self):
        with open("received", "ab") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\n")
        self.send_response(204)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Received).serve_forever()
END
}
"""
# What runs until it is stopped runs in the background. The `&` of the page is in its place.
SERVES = re.compile(r"(?m)^((?:[A-Z_]+=\S+ )*)(apflow serve\b[^#&\n]*)&?")
WORKS = re.compile(r"(?m)^((?:[A-Z_]+=\S+ )*)(apflow worker\b(?! --help)[^#&\n]*)&?")
# Variables that say from where uv installs, and through which proxy, but not what the page has set.
OF_UV = re.compile(r"(?i)UV_(?!CONSTRAINT$)|SSL_|\w+_PROXY$")
TIMEOUT_SECONDS, TIMED_OUT = 500, 124  # the status is that of timeout(1)
MISSING = "It is in a separate distribution"
"""What `apflow validate` says of a task whose executor is part of apflow and not installed."""


def write_uv(program: Path) -> None:
    """Write a program that runs uv with the index, the cache and the network of the user who tests."""
    names = [name for name in os.environ if name == "HOME" or OF_UV.match(name)]
    kept = [f"export {name}={shlex.quote(os.environ[name])}\n" for name in names]
    program.write_text(f'#!/bin/sh\n{"".join(kept)}exec {shlex.quote(str(shutil.which("uv")))} "$@"\n')
    program.chmod(0o755)


def constraints_of(wheels: Wheels, folder: Path, *, with_crewai: bool = False) -> Path:
    """Write the versions of all distributions: ours are the wheels, so that no index is asked for them."""
    others = CONSTRAINTS_CREWAI if with_crewai else CONSTRAINTS
    ours = [f"{Wheel(each).name} @ {each.as_uri()}" for each in sorted(wheels.folder.glob("*.whl"))]
    file = folder / others.name
    file.write_text(others.read_text() + "\n".join(ours) + "\n")
    return file


@dataclass(frozen=True)
class Place:
    """A home directory and an environment, for one page."""

    home: Path
    environment: Environment
    constraints: Path
    variables: Mapping[str, str]

    def bash(self, script: str) -> tuple[int, str]:
        """Run a script, and return its exit status and its output."""
        programs = self.home / ".programs"
        paths = (self.environment.python.parent, programs, "/usr/local/bin", "/usr/bin", "/bin")
        own = {
            "PATH": os.pathsep.join(map(str, paths)),
            "HOME": str(self.home),
            "VIRTUAL_ENV": str(self.environment.folder),
            "UV_CONSTRAINT": str(self.constraints),
            "APFLOW_DATABASE_URL": f"duckdb:///{self.home}/apflow.duckdb",
            "LC_ALL": "C.UTF-8",
        }
        output = self.home / ".output"
        with output.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"{FUNCTIONS}\n{script}"],
                cwd=self.home, env=own | self.variables, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                status = TIMED_OUT
            finally:
                with suppress(ProcessLookupError):  # what is left of the page
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return status, output.read_text(errors="replace")


@dataclass(frozen=True)
class Places:
    """Where pages run. Pages that name the same packages, and install none, share a `site-packages`.

    Attributes:
        base: the packages that every page starts from.
        folder: where environments are made.
    """

    wheels: Wheels
    base: frozenset[str]
    folder: Path
    made: dict[frozenset[str], Environment] = field(default_factory=dict[frozenset[str], Environment])

    def place(self, page: Page, home: Path, variables: Mapping[str, str]) -> Place:
        """Return an empty home in an environment with what every page starts from and this page names."""
        names = self.base | page.requirements
        constraints = constraints_of(self.wheels, self.folder, with_crewai=CREWAI in names)
        is_changed = "pip install" in script(page, frame_of(page.name))
        environment = None if is_changed else self.made.get(names)
        if environment is None:
            environment = new_environment(self.folder / f"venv-{secrets.token_hex(8)}")
            into = ("--python", environment.python, "-c", constraints)
            must_run("uv", "pip", "install", "--quiet", *into, *sorted(names))
        if not is_changed:
            self.made[names] = environment
        (home / ".programs").mkdir(parents=True)
        write_uv(home / ".programs" / "uv")
        return Place(home, environment, constraints, variables)


def elsewhere(block: Block, frame: Frame) -> str | None:
    """Return the test that runs a block in place of the page's own, if there is one."""
    named = [test for text, test in frame.elsewhere.items() if text and text in block.text]
    return named[0] if named else frame.elsewhere.get("")


def is_run(block: Block, frame: Frame) -> bool:
    is_left = elsewhere(block, frame) or any(text in block.text for text in frame.not_run)
    return block.language in SHELLS and not is_left


def runs_python(page: Page, frame: Frame) -> bool:
    return bool(page.program) and "" not in frame.elsewhere


def has_work(page: Page, frame: Frame) -> bool:
    """Whether something of a page is run here: its Python, a command, or the check of a tree."""
    return bool(page.trees) or runs_python(page, frame) or any(is_run(each, frame) for each in page.blocks)


def typed(text: str) -> str:
    """Return the commands of a block: its lines, or those after a prompt if it also shows output."""
    lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    return "\n".join(lines) if lines else text


def script(page: Page, frame: Frame) -> str:
    """Return a page as one script: its Python, then the commands of its shells, in their frame."""
    pieces = [frame.before, "python page.py"] if runs_python(page, frame) else [frame.before]
    for block in page.blocks:
        if not is_run(block, frame):
            continue
        pieces += [text for part, text in frame.between.items() if part in block.text]
        text = typed(block.text)
        for placeholder, value in frame.values.items():
            text = text.replace(placeholder, value)
        text = text.replace("http://127.0.0.1:8000", "http://127.0.0.1:$PORT")
        text = SERVES.sub(r"\1serving \2", text)
        pieces.append(WORKS.sub(r"\1background \2", text))
    return "\n".join([*pieces, frame.after])


def run(page: Page, frame: Frame, place: Place) -> None:
    """Run a page, and check its trees."""
    (place.home / "page.py").write_text(page.program)
    text = script(page, frame)
    status, output = place.bash(text)
    assert status == 0, f"{text}\n{output}\nexit status {status}"
    if page.trees:
        check_trees(page, place)


def check_trees(page: Page, place: Place) -> None:
    """Check that the executors of the page's trees are installed, except those that a reader writes."""
    files = [f"page-{number}.yaml" for number in range(len(page.trees))]
    for file, text in zip(files, page.trees, strict=True):
        (place.home / file).write_text(text)
    status, output = place.bash(f"apflow validate {' '.join(files)}")
    assert status in (0, 2), output
    missing = [line for line in output.splitlines() if MISSING in line]
    assert missing == [], f"{page.name} does not say to install:\n" + "\n".join(missing)
