"""Record the session of a page of the documentation: run its commands, and write their output into the page.

hatch run dev:python tools/record_session.py

A session is in the `console` blocks of the page that begin with `$ `. The lines with `$ ` are commands, and
the others are their output. A block of another language whose first line is `# NAME` is the file NAME. All
commands of a page run in one shell, in one new directory.

With `--check`, the outputs must be those of the page, except for what differs from run to run: times,
durations, IDs, process IDs, sizes, pages, the version, and lines that tasks log while they are watched.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

from repository import ROOT, report

PAGE = ROOT / "docs" / "tutorial" / "a-session.md"
TIMEOUT_SECONDS = 600
MARK = "end of command"
PROMPT = "$ "
SHOWN_FOLDER = "/home/ann"
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from run to run, in the order of replacement.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b|\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\b(\d+h ?)?(\d+m ?)?\d+(\.\d+)?s\b"), "SECONDS"),
    (re.compile(r'"duration": [\d.e-]+'), '"duration": SECONDS'),
    (re.compile(r"\bprocess \d+"), "process PID"),
    (re.compile(r"(?m)^TIME\S* log .*\n"), ""),  # when lines are sent depends on time
    (re.compile(r"\d+ (event|log) pages?"), "PAGES"),
    (re.compile(r"\bapflow \d+\.\d+\.\d+"), "apflow VERSION"),
    (re.compile(r"\b[\d,]+ bytes"), "BYTES"),
    (re.compile(r"/daemons/[0-9a-f]+"), "/daemons/ID"),
    (re.compile(r" +"), " "),
)


@dataclass
class Step:
    """A command of a session, and its output."""

    command: str
    output: list[str] = field(default_factory=list[str])

    @property
    def lines(self) -> list[str]:
        return [f"{PROMPT}{self.command}", *self.output]


def files_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each file of a page."""
    for block in BLOCK.finditer(text):
        named = re.match(r"# ([\w.-]+)\n", block["body"])
        if named and block["language"] != "console":
            yield named[1], block["body"]


def steps_in(body: str) -> list[Step]:
    """Return the commands of a block with their outputs; none if the block is not part of the session."""
    steps: list[Step] = []
    for line in body.splitlines() if body.startswith(PROMPT) else ():
        if line.startswith(PROMPT):
            steps.append(Step(line.removeprefix(PROMPT)))
        else:
            steps[-1].output.append(line)
    return steps


def blocks_of(text: str) -> Iterator[tuple[re.Match[str], list[Step]]]:
    """Yield the blocks of a page that contain parts of the session."""
    for block in BLOCK.finditer(text):
        steps = steps_in(block["body"]) if block["language"] == "console" else []
        if steps:
            yield block, steps


def recorded(text: str, programs: Path) -> str:
    """Return a page with the outputs of its commands as they are now.

    Args:
        programs: the directory of the program `apflow`.
    """
    found = [(block, steps) for block, steps in blocks_of(text)]
    outputs = iter(
        run([step.command for _, steps in found for step in steps], dict(files_of(text)), programs)
    )
    pieces: list[str] = []
    end = 0
    for block, steps in found:
        lines = [line for step in steps for line in Step(step.command, next(outputs)).lines]
        pieces += [text[end : block.start("body")], *(f"{line}\n" for line in lines)]
        end = block.end("body")
    return "".join([*pieces, text[end:]])


def run(commands: Iterable[str], files: dict[str, str], programs: Path) -> list[list[str]]:
    """Run commands in one shell, in a directory with these files, and return the lines that each prints."""
    script = "\n".join(f"{command}\nstatus=$?; echo '{MARK}'; (exit $status)" for command in commands)
    with tempfile.TemporaryDirectory(prefix="apflow-session-") as made:
        folder = Path(made).resolve()
        for name, content in files.items():
            (folder / name).write_text(content)
        environment = variables(folder, programs)
        try:
            done = subprocess.run(
                ["bash", "-c", f"exec 2>&1\n{script}"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        finally:
            stop = [str(programs / "apflow"), "daemon", "stop", "--force"]
            subprocess.run(stop, cwd=folder, env=environment, capture_output=True, check=False)
    shown = done.stdout.replace(str(folder), SHOWN_FOLDER)
    return [part.splitlines() for part in shown.split(f"{MARK}\n")[:-1]]


def variables(folder: Path, programs: Path) -> dict[str, str]:
    """Return the environment of a new user with the home directory `folder`."""
    return {
        "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",  # output and notes in their order, as on a terminal
        "APFLOW_DATABASE_URL": f"duckdb:///{folder}/tasks.duckdb",
    }


def masked(text: str) -> list[str]:
    """Return the lines of a page, with a placeholder for what differs from run to run."""
    for pattern, placeholder in VARYING:
        text = pattern.sub(placeholder, text)
    return text.splitlines()


def differences(page: str, now: str) -> list[str]:
    """Return what differs between a page and the same page recorded now."""
    return list(unified_diff(masked(page), masked(now), "the page", "now", n=1, lineterm=""))


def add_programs_option(parser: argparse.ArgumentParser) -> None:
    """Add `--programs`: the directory of the program `apflow` that runs the commands."""
    parser.add_argument(
        "--programs",
        type=Path,
        default=Path(sys.executable).parent,
        metavar="DIRECTORY",
        help="where `apflow` is; by default next to this Python",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    add_programs_option(parser)
    given = parser.parse_args()
    page = given.page.read_text(encoding="utf-8")
    now = recorded(page, given.programs)
    if given.check:
        return report(differences(page, now), f"Record it again: python tools/record_session.py {given.page}")
    given.page.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
