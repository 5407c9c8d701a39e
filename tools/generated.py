"""What all tools that generate files share: `--check` compares, without it they write."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from repository import ROOT, report


def write_or_check(description: str | None, tool: str, files: Mapping[Path, str]) -> int:
    """Write generated files, or with `--check` only report those that are out of date.

    Args:
        description: what the tool says about itself in its help.
        tool: the name of the tool, for the advice.
        files: the content of each file.

    Returns:
        The exit code: 1 if a checked file is out of date, otherwise 0.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="only check that the files are up to date")
    is_check = parser.parse_args().check
    stale = {
        file: text
        for file, text in files.items()
        if not file.is_file() or file.read_text(encoding="utf-8") != text
    }
    if is_check:
        faults = [f"{file.relative_to(ROOT)} is out of date" for file in stale]
        return report(faults, f"Run: hatch run dev:python tools/{tool}.py")
    for file, text in stale.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0
