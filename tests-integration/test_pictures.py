"""The pictures that the documents show: each exists, says in words what it shows, and none is left over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from installing import ROOT

PICTURES = ROOT / "docs" / "pictures"
RECORDINGS = ROOT / "docs" / "recordings"
MAX_BYTES = 600_000  # of all pictures: a clone and the site stay small
SHOWN = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<path>[^)\s]+)\)")


def pages() -> list[Path]:
    written = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("packages/*/README.md")]
    return sorted(written)


def shown() -> Iterator[tuple[Path, str]]:
    """Yield the file and the text in its place, of each picture that a page shows."""
    for page in pages():
        for found in SHOWN.finditer(page.read_text(encoding="utf-8")):
            if "://" not in found["path"]:
                yield (page.parent / found["path"]).resolve(), found["text"]


def test_each_picture_that_a_page_shows_exists():
    missing = sorted(str(file) for file, _ in shown() if not file.is_file())
    assert missing == []


def test_each_picture_that_is_made_is_shown():
    made = {
        file.resolve() for folder in (PICTURES, RECORDINGS) for file in folder.iterdir() if file.is_file()
    }
    assert len(made) >= 2
    assert sorted(made - {file for file, _ in shown()}) == []


def test_each_picture_has_a_text_for_those_who_do_not_see_it():
    too_short = sorted(str(file) for file, text in shown() if len(text.split()) < 5)
    assert too_short == []


def test_the_pictures_of_the_page_are_small():
    assert sum(file.stat().st_size for file in PICTURES.iterdir()) < MAX_BYTES
