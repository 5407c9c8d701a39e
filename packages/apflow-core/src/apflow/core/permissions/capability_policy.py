"""What trees may touch outside of apflow, by the setting `APFLOW_ALLOWED_CAPABILITIES`.

The setting has the form of `capabilities` in the result of `tasks.plan`: for each kind, a list of values or
patterns (`*.example.com`). A kind that it does not name permits nothing, so that the setting says all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, cast

from apflow.core.errors import SettingsError
from apflow.core.model.task import Json
from apflow.core.permissions.policy_setting import PolicySetting
from apflow.core.settings import Settings, get_settings

KINDS: Final = ("executors", "hosts", "commands", "images", "secrets")
UNDETERMINED: Final = "undetermined"  # inputs that are known only in the run, as `TASK.inputs.NAME`
VARIABLE: Final = "APFLOW_ALLOWED_CAPABILITIES"


@dataclass(frozen=True, slots=True)
class CapabilityPolicy:
    """The values and patterns that are allowed, by kind."""

    allowed: Mapping[str, tuple[str, ...]]

    def permits(self, kind: str, value: str) -> bool:
        """Return whether a value is among the allowed ones of its kind. Hosts are compared without case."""
        return any(
            fnmatchcase(_plain(kind, value), _plain(kind, each)) for each in self.allowed.get(kind, ())
        )

    def to_json(self) -> dict[str, Json]:
        """Return the policy as JSON, which `policy_from_json` reads."""
        return {kind: list(values) for kind, values in self.allowed.items()}


def policy_from_json(allowed: Mapping[str, Json] | None) -> CapabilityPolicy | None:
    """Return the policy that `CapabilityPolicy.to_json` described; None for None."""
    if allowed is None:
        return None
    return CapabilityPolicy({kind: tuple(values) for kind, values in allowed.items()})


def capability_policy(settings: Settings | None = None) -> CapabilityPolicy | None:
    """Return the policy that settings name, by default those of this process; None: all is allowed.

    A file is read again when it has changed.

    Raises:
        SettingsError: it cannot be read.
    """
    given = (settings or get_settings()).allowed_capabilities.strip()
    return _SETTING.policy(given) if given else None


def _read(content: object, where: str) -> CapabilityPolicy:
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


_SETTING: Final = PolicySetting(
    VARIABLE, "The list of allowed capabilities", '{"executors": [...], "hosts": [...]}', _read
)


def _plain(kind: str, value: str) -> str:
    return value.rstrip(".").casefold() if kind == "hosts" else value
