"""Stored credentials: only the same key reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.server.auth import credentials
from apflow.server.auth.credentials import decrypt, encrypt

SECRET = "a secret of tests that is long enough for every algorithm"


@pytest.mark.parametrize("settings", [Settings(credentials_key="k"), Settings(jwt_secret=SECRET), Settings()])
def test_what_is_encrypted_is_read_again(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(credentials, "_key_file", lambda: tmp_path / "below" / "key")
    hidden = encrypt("the token", settings)
    assert "token" not in hidden
    assert decrypt(hidden, settings) == "the token"


def test_another_key_does_not_read_it():
    with pytest.raises(SettingsError, match="APFLOW_CREDENTIALS_KEY"):
        decrypt(encrypt("the token", Settings(credentials_key="a")), Settings(credentials_key="b"))


def test_only_the_user_can_read_the_file_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "key"
    monkeypatch.setattr(credentials, "_key_file", lambda: file)
    encrypt("x", Settings())
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]
