"""Settings as they are shown, and as they are written into `apflow.toml`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

from apflow.core.errors import SettingsError
from apflow.core.payload.secrets import STARS
from apflow.core.process.atomic_file import OWNER_ONLY, write_whole
from apflow.core.settings import ALIASES, Setting, check_setting, reset_settings
from apflow.core.store.shown_url import shown_url


def shown(setting: Setting) -> object:
    """Return the value of a setting as plain JSON, without anything secret in it."""
    value = setting.value
    if setting.is_secret and value:
        return STARS
    if isinstance(value, str):
        return shown_url(value)
    return [shown_url(each) for each in cast("tuple[str, ...]", value)] if isinstance(value, tuple) else value


def as_text(value: object) -> str:
    """Return a value in the form of an environment variable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, cast("list[object]", value)))
    if isinstance(value, Mapping):
        return ",".join(f"{name}={other}" for name, other in cast("Mapping[str, object]", value).items())
    return str(value)


def write_setting(path: Path, name: str, value: str) -> None:
    """Write a setting into a file atomically; the rest of the file is unchanged, including comments.

    Raises:
        SettingsError: the value is of the wrong kind, or the file cannot be read or written.
    """
    checked = check_setting(name, value, name)
    with _changing(path):
        document: Any = (
            tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        )
        _put(
            document, name, list(cast("tuple[str, ...]", checked)) if isinstance(checked, tuple) else checked
        )
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = path.stat().st_mode & 0o777 if path.exists() else OWNER_ONLY
        write_whole(path, tomlkit.dumps(document), mode)
    reset_settings()


def remove_setting(path: Path, name: str) -> bool:
    """Remove a setting from a file atomically, and return whether it was there; the rest is unchanged.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    if not path.exists():
        return False
    with _changing(path):
        document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
        is_there = False
        while (place := _place(document, name, "")) is not None:
            table, key = place
            del table[key]
            is_there = True
        if is_there:
            write_whole(path, tomlkit.dumps(document), path.stat().st_mode & 0o777)
    reset_settings()
    return is_there


@contextmanager
def _changing(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError, TOMLKitError) as error:
        raise SettingsError(f"{path} cannot be changed: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path} cannot be changed: its values are nested too deeply.") from error


def _put(document: Any, name: str, value: object) -> None:
    """Put a value where the setting stands already, under whatever spelling; else at the top."""
    table, key = _place(document, name, "") or (document, name)
    table[key] = value


def _place(table: Any, name: str, prefix: str) -> tuple[Any, str] | None:
    for key, value in table.items():
        full = prefix + key.replace("-", "_")
        if ALIASES.get(full, full) == name:
            return table, key
        if isinstance(value, Mapping):
            found = _place(value, name, f"{full}_")
            if found is not None:
                return found
    return None
