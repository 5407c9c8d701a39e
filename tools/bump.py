"""Raises the version of every package at once, and turns the changelog's fragments into its next section.

A fragment is `changelog.d/SUBJECT.KIND.md`, KIND being added, changed, fixed or removed.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from repository import ROOT, report
from sync import out_of_step, version_now, write

CHANGELOG = ROOT / "CHANGELOG.md"
FRAGMENTS = ROOT / "changelog.d"
KINDS = ("added", "changed", "fixed", "removed")
MARK = "<!-- releases -->\n"


def fragments() -> list[Path]:
    return sorted(each for each in FRAGMENTS.glob("*.md") if each.name != "README.md")


def kind_of(fragment: Path) -> str:
    return fragment.stem.rpartition(".")[2]


def section(version: str, day: datetime.date, found: Sequence[Path]) -> str:
    """One release: its heading, then what is in it, by kind."""
    lines = [f"\n## {version} ({day.isoformat()})\n"]
    for kind in KINDS:
        texts = [each.read_text().strip() for each in found if kind_of(each) == kind]
        if texts:
            lines += [f"\n### {kind.capitalize()}\n\n", *(f"- {text}\n" for text in texts)]
    return "".join(lines)


def check() -> list[str]:
    faults = [
        f"changelog.d/{each.name}: the name should end in .KIND.md, KIND one of {', '.join(KINDS)}"
        for each in fragments()
        if kind_of(each) not in KINDS
    ]
    faults += [f"changelog.d/{each.name} is empty" for each in fragments() if not each.read_text().strip()]
    if MARK not in CHANGELOG.read_text():
        faults.append(f"CHANGELOG.md has lost the line {MARK.strip()}")
    return faults


def release(version: str, day: datetime.date) -> None:
    found = fragments()
    before, mark, after = CHANGELOG.read_text().partition(MARK)
    CHANGELOG.write_text(before + mark + section(version, day, found) + after)
    for fragment in found:
        fragment.unlink()
    write(out_of_step(version))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", help=f"the next version; now it is {version_now()}")
    parser.add_argument("--check", action="store_true", help="only check the fragments")
    options = parser.parse_args()
    faults = check()
    if options.check or faults:
        return report(faults)
    if not re.fullmatch(r"\d+\.\d+\.\d+", options.version or ""):
        parser.error("give the next version as MAJOR.MINOR.PATCH")
    release(options.version, datetime.datetime.now(datetime.UTC).date())
    return 0


if __name__ == "__main__":
    sys.exit(main())
