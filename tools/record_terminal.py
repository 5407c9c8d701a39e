"""Record the terminal sessions of the documentation as animated pictures.

hatch run dev:python tools/record_terminal.py

A session is a directory of docs/recordings/: the lines of its session.sh are typed one after the other into
one shell, in a new directory with the other files of the session. The picture is docs/recordings/NAME.svg,
which browsers show without a script. termtosvg draws it, in an environment that uv creates.

Record on an idle machine: the picture has the times of its recording.

With `--check`, the picture must show each line that is typed, and the reasons that `apflow tasks why` gives.
"""

from __future__ import annotations

import argparse
import html
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from record_session import PROMPT, add_programs_option, run, variables
from repository import ROOT, report

SESSIONS = ROOT / "docs" / "recordings"
SCRIPT = "session.sh"
COLUMNS, ROWS = 96, 22
LONGEST_FRAME = 2500  # milliseconds; what waits longer is shortened
LAST_FRAME = 4000  # milliseconds before the animation begins again
# Types a line as a person does; after it has run, there is time to read.
TYPE = f"""type_line() {{
    local text={shlex.quote(PROMPT)}$1 i
    for ((i = 0; i < ${{#text}}; i++)); do printf %s "${{text:i:1}}"; sleep 0.04; done
    echo
}}"""
PAUSE = "sleep 1.5"
# termtosvg imports pkg_resources, which later releases of setuptools do not have.
RECORDER = ("uv", "tool", "run", "--from", "termtosvg==1.1.0", "--with", "setuptools<81", "termtosvg")


def lines_of(session: Path) -> list[str]:
    """Return what is typed in a session."""
    return (session / SCRIPT).read_text(encoding="utf-8").splitlines()


def record(session: Path, programs: Path) -> None:
    """Draw the picture of a session."""
    typed = [f"type_line {shlex.quote(line)}\n{line}\n{PAUSE}" for line in lines_of(session)]
    script = "\n".join([TYPE, *typed])
    with tempfile.TemporaryDirectory(prefix="apflow-recording-") as made:
        folder = Path(made).resolve()
        shutil.copytree(session, folder, dirs_exist_ok=True)
        # Only the session has another home directory: uv installs the recorder with the user's settings.
        own = variables(folder, programs) | {"TERM": "xterm-256color"}
        shell = ["env", *(f"{name}={value}" for name, value in own.items()), "bash", "-c", script]
        command = [
            *RECORDER, str(session.with_suffix(".svg").absolute()), "--command", shlex.join(shell),
            "--screen-geometry", f"{COLUMNS}x{ROWS}", "--template", "window_frame",
            "--max-frame-duration", str(LONGEST_FRAME), "--loop-delay", str(LAST_FRAME),
        ]  # fmt: skip
        terminal, keyboard = os.openpty()  # the recorder stops at the end of its input
        try:
            subprocess.run(command, cwd=folder, stdin=keyboard, check=True)
        finally:
            os.close(keyboard)
            os.close(terminal)


def missing(session: Path, programs: Path) -> list[str]:
    """Return the lines that the picture of a session does not show."""
    typed = lines_of(session)
    files = {each.name: each.read_text(encoding="utf-8") for each in session.iterdir() if each.name != SCRIPT}
    printed = run(typed, files, programs)
    shown = [f"{PROMPT}{line}" for line in typed]
    for line, output in zip(typed, printed, strict=True):
        shown += output if line.startswith("apflow tasks why ") else []
    picture = html.unescape(session.with_suffix(".svg").read_text(encoding="utf-8"))
    return [f"{session.name}: {line}" for line in shown if line[:COLUMNS] not in picture]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=Path, default=SESSIONS, metavar="DIRECTORY")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    add_programs_option(parser)
    options = parser.parse_args(given)
    sessions = sorted(path.parent for path in options.sessions.glob(f"*/{SCRIPT}"))
    if options.check:
        lines = [line for session in sessions for line in missing(session, options.programs)]
        return report(lines, "Record it again: python tools/record_terminal.py")
    for session in sessions:
        record(session, options.programs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
