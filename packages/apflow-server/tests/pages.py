"""A small page in place of the built one, for tests of how the server serves it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx

INDEX = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>apflow</title>'
    '<script type="module" src="./assets/page-1a2b3c4d.js"></script><main></main></html>'
)
SCRIPT = "document.title = 'started';\n" * 50
EXPORT = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>apflow</title></head><body>'
    '<script type="application/json" id="run">null</script><main></main></body></html>'
)

TIMEOUT = 60.0  # seconds, on a busy machine
get = partial(httpx.get, timeout=TIMEOUT)
post = partial(httpx.post, timeout=TIMEOUT)


def write_page(folder: Path, script: str = SCRIPT) -> Path:
    """Write a page into a folder, as its build does, and return the folder."""
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "export.html").write_text(EXPORT)
    (folder / "assets" / "page-1a2b3c4d.js").write_text(script)
    (folder / "assets" / "notes.exe").write_text("not served")
    (folder / ".hidden.txt").write_text("not served")
    return folder
