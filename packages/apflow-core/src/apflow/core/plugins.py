"""Finding plugins without importing them, and loading them one at a time.

Discovery reads only the metadata of installed distributions, once per process, so a plugin that cannot be
imported is still listed. This is the only module that imports importlib.metadata, where it is needed:
that takes longer than reading entry points.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

from apflow.core.entry_points import is_path_readable, load_object, read_entry_points
from apflow.core.errors import PluginConflictError, PluginLoadError
from apflow.core.process.error_text import describe_error
from apflow.core.process.late_import import removing_orphans

if TYPE_CHECKING:
    from importlib.metadata import Distribution


PREFIX = "apflow."  # of the groups


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One entry point of an installed distribution, not imported."""

    group: str
    name: str
    distribution: str
    version: str
    value: str  # "package.module:object"


class RecordedFile(NamedTuple):
    """A file that an installer has recorded."""

    name: str  # its path relative to the distribution, with slashes
    path: str  # its absolute path
    digest: str  # SHA-256 in URL-safe base64 without padding; empty if it is not recorded


def names(group: str) -> list[str]:
    """Return the names that the group offers, sorted."""
    return sorted(_scan().get(group, {}))


def is_offered(group: str, name: str) -> bool:
    """Return whether any installed distribution offers this name."""
    return name in _scan().get(group, {})


def names_by_target(group: str) -> dict[str, str]:
    """Return the names that the group offers by object reference ("package.module:object").

    Reads entry points only: the metadata of their distributions takes longer to parse.
    """
    return {offer.value: name for name, offers in _scan().get(group, {}).items() for offer in offers}


def targets(group: str) -> list[tuple[str, str]]:
    """Return the names that the group offers, sorted, each with its object reference; see `names_by_target`.

    A name that two distributions offer is there twice.
    """
    return [(name, offer.value) for name in names(group) for offer in _rivals(group, name)]


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
        PluginLoadError: it cannot be imported. Where `may_pass` is true, the process lacked a resource, such
            as a free file descriptor, and the next call tries again.
    """
    offer = _choose(group, name)
    if offer is None:
        raise LookupError(f"No installed distribution offers {name!r} in {group}.")
    try:
        loaded, fault = _import(offer)
    except _PassingFaultError as error:
        fault = error.fault
        raise _load_error(offer, fault, may_pass=True) from fault
    if fault is not None:
        raise _load_error(offer, fault, may_pass=False) from fault
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
    for cached in (_scan, _rivals, _import, _name_and_version):
        cached.cache_clear()


@dataclass(frozen=True, slots=True, eq=False)
class _Offer:
    """An entry point and who brings it. Metadata is read only when asked for: that is slow."""

    group: str
    name: str
    value: str  # "package.module:object"
    origin: Distribution | str  # the distribution, or the directory with its metadata

    @property
    def owner(self) -> Distribution:
        """The distribution that brings it."""
        if not isinstance(self.origin, str):
            return self.origin
        from importlib.metadata import Distribution

        return Distribution.at(self.origin)

    def describe(self) -> PluginInfo:
        return PluginInfo(self.group, self.name, *_name_and_version(self.origin), self.value)


@cache
def _name_and_version(origin: Distribution | str) -> tuple[str, str]:
    from importlib.metadata import Distribution

    metadata = (Distribution.at(origin) if isinstance(origin, str) else origin).metadata
    return metadata["Name"], metadata["Version"]


def recorded_files() -> Iterator[tuple[str, str, list[RecordedFile]]]:
    """Yield each installed distribution: its name, its version, and the files in its RECORD."""
    from importlib.metadata import distributions

    for each in distributions():
        files = [
            RecordedFile(file.as_posix(), str(file.locate()), file.hash.value if file.hash else "")
            for file in each.files or ()
        ]
        yield each.metadata["Name"] or "", each.version, files


@cache
def _scan() -> dict[str, dict[str, list[_Offer]]]:
    """Return all offers by group and name, in the order of the import path.

    Raises:
        OSError: a file cannot be read. The result would lack plugins; it is not cached.
    """
    found: dict[str, dict[str, list[_Offer]]] = {}
    for offer in _offers() if is_path_readable() else _offers_of_finders():
        found.setdefault(offer.group, {}).setdefault(offer.name, []).append(offer)
    return found


def _offers() -> Iterator[_Offer]:
    """Yield the offers of distributions in directories of the import path."""
    return (_Offer(*each) for each in read_entry_points(PREFIX))


def _offers_of_finders() -> Iterator[_Offer]:
    """Yield the offers of all distributions that the finders of `importlib.metadata` find.

    Raises:
        OSError: the process has no file descriptor free. `importlib.metadata` takes a directory that it
            cannot read for an empty one.
    """
    from importlib.metadata import distributions

    try:
        _check_descriptors()
        for owner in distributions():
            for entry in owner.entry_points:
                if entry.group.startswith(PREFIX):
                    yield _Offer(entry.group, entry.name, entry.value, owner)
        _check_descriptors()
    except OSError:
        importlib.invalidate_caches()
        raise


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
    from apflow.core.settings import get_settings  # here: `--help` needs no settings

    preferred = _normalized(get_settings().plugins_prefer.get(name, ""))
    for offer in offers:
        if _normalized(offer.owner.name) == preferred:
            return offer
    raise PluginConflictError(group, name, sorted(each.owner.name for each in offers))


@cache
def _import(offer: _Offer) -> tuple[object, BaseException | None]:
    """Return the plugin's object, or why it cannot be imported. Both are cached: one import per process.

    Raises:
        _PassingFaultError: the import failed because a resource was exhausted. This is not cached.
    """
    try:
        with removing_orphans():
            return load_object(offer.value), None
    except KeyboardInterrupt:
        raise  # Ctrl-C: the next call tries again
    except BaseException as error:  # whatever else a plugin raises must not end the program
        if _may_pass(error):
            importlib.invalidate_caches()  # they hold what could not be read
            raise _PassingFaultError(error) from error
        return None, error


class _PassingFaultError(Exception):
    """An import failed for a reason that may be gone at the next attempt."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__(describe_error(fault))
        self.fault = fault


_DESCRIPTORS = 3  # that a scan or an import needs at once, at least
# Errors of the system that say nothing about the plugin.
_RESOURCE_ERRORS = frozenset(
    {
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR,
        errno.EBUSY, errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ENOBUFS,
    }
)  # fmt: skip
# The dynamic linker and libraries pass these on as text only, within an ImportError.
_RESOURCE_TEXTS = tuple(
    os.strerror(each) for each in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
)


def _may_pass(error: BaseException) -> bool:
    """Return whether an import failed because the process or the system lacked a resource."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, MemoryError | ConnectionError | TimeoutError):
            return True
        if isinstance(each, OSError) and each.errno in _RESOURCE_ERRORS:
            return True
        if any(text in describe_error(each) for text in _RESOURCE_TEXTS):
            return True
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", each).exceptions
    return _lacks_descriptors()  # a directory that could not be read has looked empty


def _lacks_descriptors() -> bool:
    try:
        _check_descriptors()
    except OSError:
        return True
    return False


def _check_descriptors() -> None:
    """Raise `OSError` unless the process can open a few files."""
    opened: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - those before a failure are closed
    finally:
        for each in opened:
            os.close(each)


def _load_error(offer: _Offer, fault: BaseException, *, may_pass: bool) -> PluginLoadError:
    try:
        name, owner_version = _name_and_version(offer.origin)
        cause = _explain(offer.owner, fault)
    except OSError:  # the metadata cannot be read now either
        name, owner_version, cause = offer.value.partition(":")[0], "(unknown version)", _cause(fault)
    if may_pass:
        cause += " (the process lacked a resource; the next call imports it again)"
    return PluginLoadError(offer.group, offer.name, name, owner_version, cause, may_pass=may_pass)


def _cause(fault: BaseException) -> str:
    return without_paths(describe_error(fault))


def _explain(owner: Distribution, fault: BaseException) -> str:
    cause = _cause(fault)
    for requirement in owner.requires or []:
        if re.match(r"apflow[-_.]core\b(?![-_.])", requirement):
            installed = version("apflow-core")
            return f"{cause} (it is built for {requirement}; apflow-core {installed} is installed)"
    return cause


# An absolute path of two parts or more, not within a URL; in quotes or brackets also with spaces.
_PATH = re.compile(r"(?<![\w:/.])(?:/|[A-Za-z]:\\)[^\s'\"()<>:,]+[/\\][^\s'\"()<>:,]*")


def without_paths(text: str) -> str:
    """Return the message of a plugin's fault without local paths, because clients of a server see it."""
    return _PATH.sub("...", text)


def _normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
