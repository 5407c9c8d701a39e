"""An import that lacked a resource for a moment succeeds later."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apflow.core.process.late_import import import_late

PARTS = {
    "__init__": "from large_library import first, second\nfrom large_library.third import total",
    "first": "value = 1",
    "second": "import errno\nraise OSError(errno.EMFILE, 'Too many open files')",
    "third": "import large_library\ntotal = large_library.first.value + large_library.second.value",
}


def test_an_import_that_failed_in_the_middle_succeeds_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "large_library"
    package.mkdir()
    for name, text in PARTS.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OSError, match="Too many open files"):
        import_late("large_library")
    assert [name for name in sys.modules if name.startswith("large_library")] == []
    (package / "second.py").write_text("value = 2  # and the file has another length")
    try:
        assert import_late("large_library").total == 3
    finally:
        for name in [each for each in sys.modules if each.startswith("large_library")]:
            del sys.modules[name]
