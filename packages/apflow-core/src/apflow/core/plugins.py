"""Finding plugins without importing them, and loading them one at a time.

Discovery reads the metadata of installed distributions, nothing else and once per process, so a plugin
that cannot be imported is still listed. This is the only module that imports importlib.metadata.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from apflow.core.errors import PluginConflictError, PluginLoadError
from apflow.core.settings import get_settings

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One entry point of an installed distribution, not imported."""

    group: str
    name: str
    distribution: str
    version: str
    value: str  # "package.module:object"


def names(group: str) -> list[str]:
    """Return the names that the group offers, sorted."""
    return sorted(_scan().get(group, {}))


def is_offered(group: str, name: str) -> bool:
    """Say whether any installed distribution offers this name."""
    return name in _scan().get(group, {})


def listing(group: str) -> list[PluginInfo]:
    """Return every plugin of the group by name; two of one name are both there."""
    return [offer.describe() for name in names(group) for offer in _rivals(group, name)]


def find(group: str, name: str) -> PluginInfo | None:
    """Return the plugin of this name, or None.

    Raises:
        PluginConflictError: two distributions offer the name and no setting chooses.
    """
    offer = _choose(group, name)
    return offer.describe() if offer else None


def load(group: str, name: str) -> object:
    """Import the plugin of this name, and no other, and return its object.

    Raises:
        LookupError: nothing offers the name.
        PluginConflictError: two distributions offer it and no setting chooses.
        PluginLoadError: it cannot be imported.
    """
    offer = _choose(group, name)
    if offer is None:
        raise LookupError(f"No installed distribution offers {name!r} in {group}.")
    loaded, fault = _import(offer)
    if fault is not None:
        owner = offer.owner
        raise PluginLoadError(group, name, owner.name, owner.version, _explain(owner, fault)) from fault
    return loaded


def version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None when it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def reset() -> None:
    """Forget what was found, so that distributions installed since are seen."""
    for cached in (_scan, _rivals, _import):
        cached.cache_clear()


@dataclass(frozen=True, slots=True, eq=False)
class _Offer:
    """An entry point and who brings it. Metadata is read only when asked for: that is slow."""

    entry: EntryPoint
    owner: Distribution

    def describe(self) -> PluginInfo:
        return PluginInfo(
            self.entry.group, self.entry.name, self.owner.name, self.owner.version, self.entry.value
        )


@cache
def _scan() -> dict[str, dict[str, list[_Offer]]]:
    """Return all offers by group and name, in the order of the import path."""
    from importlib.metadata import distributions

    found: dict[str, dict[str, list[_Offer]]] = {}
    for owner in distributions():
        for entry in owner.entry_points:
            if entry.group.startswith("apflow."):
                found.setdefault(entry.group, {}).setdefault(entry.name, []).append(_Offer(entry, owner))
    return found


@cache
def _rivals(group: str, name: str) -> list[_Offer]:
    """Return the offers of a name, one per distribution: of a shadowed copy only the first is importable."""
    offers = _scan().get(group, {}).get(name, [])
    if len(offers) < 2:
        return offers
    by_owner: dict[str, _Offer] = {}
    for offer in offers:
        by_owner.setdefault(_normalized(offer.owner.name), offer)
    return list(by_owner.values())


def _choose(group: str, name: str) -> _Offer | None:
    offers = _rivals(group, name)
    if len(offers) < 2:
        return offers[0] if offers else None
    preferred = _normalized(get_settings().plugins_prefer.get(name, ""))
    for offer in offers:
        if _normalized(offer.owner.name) == preferred:
            return offer
    raise PluginConflictError(group, name, sorted(each.owner.name for each in offers))


@cache
def _import(offer: _Offer) -> tuple[object, BaseException | None]:
    """Return the plugin's object, or why it cannot be had. A fault is kept: one import per process."""
    try:
        return offer.entry.load(), None
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises must not end the program
        return None, error


def _explain(owner: Distribution, fault: BaseException) -> str:
    cause = f"{type(fault).__name__}: {without_paths(str(fault))}"
    for requirement in owner.requires or []:
        if re.match(r"apflow[-_.]core\b(?![-_.])", requirement):
            installed = version("apflow-core")
            return f"{cause} (it is built for {requirement}; apflow-core {installed} is installed)"
    return cause


# An absolute path of two parts or more, not within a URL; in quotes or brackets also with spaces.
_PATH = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:\\)[^\s'\"()<>:,]+[/\\][^\s'\"()<>:,]*")


def without_paths(text: str) -> str:
    """Return what a fault of a plugin says, without where files are here: callers of a server are told it."""
    return _PATH.sub("...", text)


def _normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
