"""The checks of `apflow doctor`. Each says what it found; none stops the others."""

from __future__ import annotations

import asyncio
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from apflow.cli.commands.version import GROUPS, distributions
from apflow.cli.inputs.options import Session
from apflow.cli.session.preparation import prepare
from apflow.cli.session.work import perform_by_holder
from apflow.core import plugins
from apflow.core.errors import ApflowError
from apflow.core.extensions.description import describe_executors
from apflow.core.model.task import Json
from apflow.core.settings import explain_settings


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
    checks += [_guarded("versions", _versions), *_plugins(), *_executors()]
    return [*checks, _guarded("database", lambda: asyncio.run(_database(session)))]


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
    left = (
        f", {found['runs_to_resume']} runs to resume (apflow tasks resume --all)"
        if found["runs_to_resume"]
        else ""
    )
    return Check("database", True, f"{found['url']}, {found['tasks']['total']} tasks{left}")
