from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apflow.core.errors import InvalidInputError
from apflow.core.extensions.user_modules import import_modules


def test_a_module_of_the_working_folder_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "of_this_folder.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_modules(["of_this_folder"])
    assert sys.modules.pop("of_this_folder").__file__ == str(tmp_path / "of_this_folder.py")


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(InvalidInputError, match="There is no module 'not_there_at_all'"):
        import_modules(["not_there_at_all"])
