"""The tutorial "From a laptop to a server" does what it says, typed from its first to its last line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from documents.page import base, page_at
from documents.place import Places
from installing import Wheels

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial" / "laptop-to-server.md"


def script() -> str:
    """Return the page as a script of bash: its files are written, its programs are run by Python."""
    pieces = ["set -euo pipefail"]
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        if language == "yaml":
            name = text.partition("\n")[0].removeprefix("# ")
            pieces.append(f"cat > {name} <<'END'\n{text}END")
        elif language == "python":
            pieces.append(f"APFLOW_API_TOKEN=\"$ann\" python - <<'END'\n{text}END")
        elif language == "shell":
            # A negated command never ends a script, so its success has to be asked for.
            pieces.append(re.sub(r"(?m)^! (.+)$", r"if \1; then echo 'accepted: \1'; exit 1; fi", text))
    return "\n".join(pieces)


def test_the_tutorial_works_from_its_first_to_its_last_line(tmp_path: Path):
    check(Path(sys.executable).parent, tmp_path)


@pytest.mark.pages
def test_the_packages_that_the_tutorial_names_are_enough_for_it(wheels: Wheels, tmp_path: Path):
    places = Places(wheels, base(), tmp_path)
    place = places.place(page_at(PAGE), tmp_path / "home", {})
    check(place.environment.python.parent, place.home)


def check(programs_of_apflow: Path, tmp_path: Path) -> None:
    """Type the tutorial in a folder, with the programs of an environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    programs = f"{programs_of_apflow}{os.pathsep}{os.environ['PATH']}"
    homes = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "STATE")}
    environment = os.environ | homes | {"PATH": programs, "PORT": str(port)}
    finished = subprocess.run(
        ["bash", "-m", "-c", f"trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script()}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    log = tmp_path / "server.log"
    logged = log.read_text() if log.exists() else ""
    assert finished.returncode == 0, finished.stdout + finished.stderr + logged
    assert finished.stdout.count("completed") >= 5
    assert finished.stdout.rstrip().endswith("completed")  # what the program at the end has printed
