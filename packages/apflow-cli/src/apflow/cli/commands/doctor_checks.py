"""The checks of `apflow doctor`. Each says what it found; none stops the others."""

from __future__ import annotations

import asyncio
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial

from apflow.cli.commands.doctor_database import (
    Finding,
    find_daemon,
    find_holder_of,
    find_permissions,
    find_room,
    find_secrets,
)
from apflow.cli.commands.doctor_files import find_problems, installed_files, namespace_directories
from apflow.cli.commands.version import GROUPS, distributions
from apflow.cli.display.names import counted
from apflow.cli.inputs.options import Session
from apflow.cli.session.preparation import prepare
from apflow.cli.session.work import perform_by_holder
from apflow.core import plugins
from apflow.core.errors import ApflowError
from apflow.core.extensions.description import describe_executors
from apflow.core.model.task import Json
from apflow.core.settings import explain_settings
from apflow.core.store.session import get_default_session


@dataclass(frozen=True)
class Check:
    """What one look at the installation found."""

    name: str
    is_good: bool
    detail: str

    @property
    def result(self) -> str:
        """The finding in one word."""
        return "ok" if self.is_good else "PROBLEM"

    def to_dict(self) -> dict[str, Json]:
        """Return the check as plain JSON."""
        return asdict(self)


def examine(session: Session) -> list[Check]:
    """Make every check, in order."""
    checks = [_python(), _guarded("settings", _settings), _guarded("imports", lambda: _imports(session))]
    checks += [_guarded("versions", _versions), _guarded("files", _files), *_plugins(), *_executors()]
    checks += _around_database()
    database = _guarded("database", lambda: asyncio.run(_database(session)))
    if not database.is_good:
        return [*checks, database]
    return [*checks, database, _guarded("secrets", lambda: asyncio.run(_secrets(session)))]


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except ApflowError as error:
        return Check(name, False, str(error))


def _python() -> Check:
    return Check("python", True, f"{platform.python_version()} on {platform.platform()}")


def _settings() -> Check:
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        chosen = [
            f"{each.name} from {each.source}" for each in explain_settings() if each.source != "default"
        ]
    if noted:
        return Check("settings", False, " ".join(str(each.message) for each in noted))
    return Check("settings", True, ", ".join(chosen) or "all at their defaults")


def _imports(session: Session) -> Check:
    prepare(session)
    return Check("imports", True, ", ".join(session.modules) or "none named")


def _versions() -> Check:
    ours = {name: version for name, version in distributions().items() if name.startswith("apflow-")}
    if len(set(ours.values())) == 1:
        return Check(
            "versions", True, f"{len(ours)} distributions of apflow, all {next(iter(ours.values()))}"
        )
    listed = ", ".join(f"{name} {version}" for name, version in ours.items())
    return Check(
        "versions", False, f"Distributions of apflow of different versions: {listed}. Upgrade them together."
    )


def _files() -> Check:
    installed = list(installed_files())
    problems = find_problems(installed, namespace_directories())
    count = sum(len(each.files) for each in installed if each.is_own)
    return Check(
        "files", not problems, " ".join(problems) or f"{count} in site-packages, none foreign or changed"
    )


def _around_database() -> Iterator[Check]:
    """Look at what surrounds the database. A problem of the database itself is reported with the database."""
    with suppress(ApflowError):
        db = get_default_session()
        looks: list[tuple[str, Callable[[], Finding]]] = []
        if db.file is not None:
            for name, look in (
                ("disk", find_room), ("permissions", find_permissions), ("holder", find_holder_of)
            ):  # fmt: skip
                looks.append((name, partial(look, db.file)))
        if db.capabilities.is_durable and sys.platform != "win32":
            looks.append(("daemon", partial(find_daemon, db)))
        for name, look_at in looks:
            yield _found(name, look_at)


def _found(name: str, look: Callable[[], Finding]) -> Check:
    try:
        return Check(name, *look())
    except OSError as error:
        return Check(name, False, str(error))


def _plugins() -> Iterator[Check]:
    """Load every plugin but the executors, which are looked at with what was registered in code."""
    for group in (f"apflow.{each}" for each in GROUPS if each != "executors"):
        for name in plugins.names(group):
            yield _guarded(f"{group}: {name}", partial(_loaded, group, name))


def _loaded(group: str, name: str) -> Check:
    plugins.load(group, name)
    owner = plugins.find(group, name)
    return Check(f"{group}: {name}", True, f"{owner.distribution} {owner.version}" if owner else "")


def _executors() -> Iterator[Check]:
    for each in describe_executors():
        origin = f"{each['distribution']} {each['version']}" if each["distribution"] else "registered in code"
        is_usable = bool(each["is_usable"])
        yield Check(
            f"apflow.executors: {each['id']}", is_usable, origin if is_usable else str(each["problem"])
        )


async def _database(session: Session) -> Check:
    found = await perform_by_holder(session, lambda service: service.database())
    runs = found["runs_to_resume"]
    left = f", {counted(runs, 'run')} to resume (apflow tasks resume --all)" if runs else ""
    tasks = counted(found["tasks"]["total"], "task")
    return Check("database", True, f"{found['url']}, {tasks}{left}")


async def _secrets(session: Session) -> Check:
    return Check("secrets", *await perform_by_holder(session, find_secrets))
