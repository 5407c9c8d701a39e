"""What trees may touch outside of apflow, by the setting `APFLOW_ALLOWED_CAPABILITIES`.

The setting has the form of `capabilities` in the result of `tasks.plan`: for each kind, a list of values or
patterns (`*.example.com`). A kind that it does not name permits nothing, so that the setting says all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings, get_settings

KINDS: Final = ("executors", "hosts", "commands", "images", "secrets")
UNDETERMINED: Final = "undetermined"  # inputs that are known only in the run, as `TASK.inputs.NAME`
VARIABLE: Final = "APFLOW_ALLOWED_CAPABILITIES"
MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CapabilityPolicy:
    """The values and patterns that are allowed, by kind."""

    allowed: Mapping[str, tuple[str, ...]]

    def permits(self, kind: str, value: str) -> bool:
        """Return whether a value is among the allowed ones of its kind. Hosts are compared without case."""
        return any(
            fnmatchcase(_plain(kind, value), _plain(kind, each)) for each in self.allowed.get(kind, ())
        )


def capability_policy(settings: Settings | None = None) -> CapabilityPolicy | None:
    """Return the policy that settings name, by default those of this process; None: all is allowed.

    A file is read again when it has changed.

    Raises:
        SettingsError: it cannot be read.
    """
    given = (settings or get_settings()).allowed_capabilities.strip()
    if not given:
        return None
    if given.startswith("{"):
        return _read_inline(given)
    path = Path(given).expanduser()
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{VARIABLE} names {given!r}, which cannot be read: {error}.") from error
    return _read_file(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read_inline(text: str) -> CapabilityPolicy:
    return _read(text, VARIABLE)


@lru_cache(maxsize=4)
def _read_file(path: Path, modified: int, size: int) -> CapabilityPolicy:
    del modified
    where = f"The list of allowed capabilities {path}"
    if size > MAX_FILE_BYTES:
        raise SettingsError(f"{where} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
    try:
        return _read(path.read_text(encoding="utf-8"), where)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where} cannot be read: {error}.") from error


def _read(text: str, where: str) -> CapabilityPolicy:
    import json
    import tomllib

    try:
        content: object = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f'{where} is neither JSON nor TOML: {error}. Expected {{"executors": [...], "hosts": [...]}}.'
        ) from error
    names = (*KINDS, UNDETERMINED)
    lists = cast("dict[str, object]", content)
    for name, values in lists.items():
        if name not in names:
            raise SettingsError(f"{where} has an unknown key {name!r}. There are: {', '.join(names)}.")
        if not isinstance(values, list) or not all(
            isinstance(each, str) and each for each in cast("list[object]", values)
        ):
            raise SettingsError(f"{where}: {name} must be a list of values or patterns.")
    return CapabilityPolicy({name: tuple(cast("list[str]", values)) for name, values in lists.items()})


def _plain(kind: str, value: str) -> str:
    return value.rstrip(".").casefold() if kind == "hosts" else value
