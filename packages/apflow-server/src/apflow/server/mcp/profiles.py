"""Which tools a client sees: profiles and patterns. Pure.

Every tool takes room in the context of a model, so the default is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from apflow.core.authoring.violation import near
from apflow.core.errors import SettingsError

RUN_PREFIX: Final = "run_"  # of tools that run one executor
DEFAULT: Final = (
    "tasks_execute",
    "tasks_get",
    "tasks_tree",
    "tasks_list",
    "tasks_cancel",
    "tasks_why",
    "tasks_logs",
    "system_executors",
)
EXECUTORS: Final = f"{RUN_PREFIX}*"
SPECIAL: Final = frozenset("*?[")  # characters of patterns


class Selection:
    """The tools that a server offers.

    Args:
        entries: names of profiles (default, read, operations, executors, all), names of tools, or patterns
            such as `tasks_*`. Empty: the profile `default`.
        read_only: for each tool of an operation, whether the operation changes nothing.

    Raises:
        SettingsError: an entry is none of these.
    """

    def __init__(self, entries: Sequence[str], read_only: Mapping[str, bool]) -> None:
        profiles = profiles_of(read_only)
        patterns: list[str] = []
        for entry in entries or ("default",):
            if entry in profiles:
                patterns += profiles[entry]
            elif entry in read_only or entry.startswith(RUN_PREFIX) or SPECIAL & set(entry):
                patterns.append(entry)
            else:
                known = [*profiles, *read_only]
                raise SettingsError(
                    f"{entry!r} is not a tool, a profile or a pattern.{near(entry, known)} The profiles are "
                    f"{', '.join(profiles)}; tools are named as tasks_get or run_rest_executor."
                )
        self._exact = frozenset(each for each in patterns if not SPECIAL & set(each))
        self._patterns = [each for each in patterns if SPECIAL & set(each)]

    def has(self, tool: str) -> bool:
        """Return whether a tool is offered."""
        return tool in self._exact or any(fnmatchcase(tool, each) for each in self._patterns)

    @property
    def has_executors(self) -> bool:
        """Whether any tool that runs an executor may be offered."""
        return any(each.startswith(RUN_PREFIX) for each in self._exact) or any(
            each.startswith(RUN_PREFIX) or each[0] in SPECIAL or RUN_PREFIX.startswith(_head(each))
            for each in self._patterns
        )


def profiles_of(read_only: Mapping[str, bool]) -> dict[str, tuple[str, ...]]:
    """Return the names or patterns of the tools of each profile."""
    return {
        "default": DEFAULT,
        "read": tuple(name for name, changes_nothing in read_only.items() if changes_nothing),
        "operations": tuple(read_only),
        "executors": (EXECUTORS,),
        "all": (*read_only, EXECUTORS),
    }


def _head(pattern: str) -> str:
    """Return what comes before the first special character of a pattern."""
    return pattern[: next(at for at, each in enumerate(pattern) if each in SPECIAL)]
