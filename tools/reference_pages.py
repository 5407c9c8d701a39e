"""Generate the pages of the reference that follow from the code.

hatch run dev:python tools/reference_pages.py
"""

from __future__ import annotations

import sys

from generated import write_or_check
from page_commands import commands_page
from page_events import events_page
from page_executors import executors_page
from page_map import map_page
from page_metrics import metrics_page
from page_packages import packages_page
from page_tree_files import tree_files_page
from repository import ROOT

FOLDER = ROOT / "docs" / "reference"
MAP = ROOT / "docs" / "explanation" / "map.md"
PAGES = {
    "commands.md": commands_page,
    "events.md": events_page,
    "executors.md": executors_page,
    "metrics.md": metrics_page,
    "packages.md": packages_page,
    "tree-files.md": tree_files_page,
}


def main() -> int:
    files = {FOLDER / name: page() for name, page in PAGES.items()}
    return write_or_check(__doc__, "reference_pages", {**files, MAP: map_page()})


if __name__ == "__main__":
    sys.exit(main())
