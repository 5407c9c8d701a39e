"""What is missing on a machine skips tests there, and fails them in CI."""

from __future__ import annotations

from pathlib import Path

import pytest
from peers.required import BROWSERS, needs, program


def test_the_first_program_that_is_installed_is_found(tmp_path: Path):
    for name in BROWSERS[1:]:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert program(*BROWSERS, path=str(tmp_path)) == str(tmp_path / BROWSERS[1])


def test_a_missing_program_skips_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="chromium is not installed"):
        program(*BROWSERS, path=str(tmp_path))
    assert needs(False, "takes root").args == (True,)
    assert needs(True, "takes root").args == (False,)


def test_a_missing_program_fails_the_test_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="chromium is not installed"):
        program(*BROWSERS, path=str(tmp_path))
    assert needs(False, "takes root").args == (False,)
