"""Executors that a setting names: each entry of the setting is one, with the name of the entry as its id.

A package offers, in the entry-point group `apflow.named_executors`, the name of a setting that maps names to
strings, and a function that returns the executor for a name and its string. Names are read from the settings
alone, so that listing them imports nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from apflow.core import plugins
from apflow.core.errors import SettingsError
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.model.ids import fault_of_extension_id
from apflow.core.settings import get_settings

GROUP: Final = "apflow.named_executors"

# Called with a name and its string.
Maker = Callable[[str, str], ExecutableTask]


@dataclass(frozen=True, slots=True)
class NamedExecutor:
    """An entry of a setting that names executors."""

    setting: str
    name: str
    value: str

    @property
    def place(self) -> str:
        """Where the name comes from, for messages."""
        return f"APFLOW_{self.setting.upper()}"

    def make(self) -> ExecutableTask:
        """Return the executor.

        Raises:
            SettingsError: the name cannot be the id of an executor.
            PluginError: the package that makes it cannot be loaded.
        """
        fault = fault_of_extension_id(self.name)
        if fault is not None:
            raise SettingsError(f"{self.place} names {self.name!r}, which cannot be used: {fault}.")
        return cast("Maker", plugins.load(GROUP, self.setting))(self.name, self.value)

    @property
    def distribution(self) -> str | None:
        """The package that makes it."""
        info = plugins.find(GROUP, self.setting)
        return None if info is None else info.distribution


def named_executor(name: str) -> NamedExecutor | None:
    """Return the executor that a setting names so; None if there is none. Imports nothing."""
    for setting, entries in reversed(list(_entries())):
        if name in entries:
            return NamedExecutor(setting, name, entries[name])
    return None


def named_executor_ids() -> set[str]:
    """Return the names of all executors that settings name. Imports nothing."""
    return {name for _, entries in _entries() for name in entries}


def _entries() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the settings that name executors, each with its entries."""
    for setting in plugins.names(GROUP):
        entries = getattr(get_settings(), setting, None)
        if isinstance(entries, Mapping):
            yield setting, cast("Mapping[str, str]", entries)
