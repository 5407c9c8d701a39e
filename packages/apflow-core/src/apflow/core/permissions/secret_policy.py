"""Which tree may use which secret, with which executor, and at which hosts.

Pure, except that the name of a secret is compared by the variable of the environment that it stands for:
`stripe-key` and `STRIPE_KEY` are one secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, cast

from apflow.core.errors import SecretRefusedError, SettingsError
from apflow.core.permissions.policy_setting import PolicySetting
from apflow.core.settings import VARIABLES, Settings, settings_now

ADMIN: Final = "admin"
ANY: Final = "*"
PREFIX: Final = "APFLOW_SECRET_"
VARIABLE: Final = "APFLOW_SECRET_POLICY"
WEBHOOK: Final = "webhook"  # stands for the delivery of webhooks where a grant names executors

_HOST = re.compile(r"(?:(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?|\*)")
_ADVICE: Final = f"An operator grants it with {VARIABLE}."


@dataclass(frozen=True, slots=True)
class Author:
    """A caller of a server, by the token: a user with roles."""

    user: str
    roles: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether the user has the role of an administrator."""
        return ADMIN in self.roles


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to use a secret. An empty `executors` or `hosts` means: any."""

    users: tuple[str, ...] = ()  # "*": everyone
    roles: tuple[str, ...] = ()
    executors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # name, *.name, address or network; each may end in :port

    def is_for(self, author: Author) -> bool:
        """Return whether the grant names an author. It covers administrators in any case."""
        is_named = author.user in self.users or ANY in self.users
        return is_named or author.is_admin or not set(self.roles).isdisjoint(author.roles)

    def covers(self, executor: str, *, can_bind: bool) -> bool:
        """Return whether the grant extends to an executor.

        Only an executor that connects through the network policy can be kept from sending a secret to other
        hosts. Another one is covered where the grant names it, or names no hosts.
        """
        if self.executors:
            return any(fnmatchcase(executor, each) for each in self.executors)
        return can_bind or not self.hosts


@dataclass(frozen=True, slots=True)
class Permission:
    """Where a secret may be sent; None: anywhere."""

    hosts: tuple[str, ...] | None = None

    def allows_host(self, host: str, port: int | None) -> bool:
        """Return whether the secret may be sent to a host."""
        return self.hosts is None or any(_is_host(each, host, port) for each in self.hosts)

    def narrowed(self, other: Permission) -> Permission:
        """Return what both permit."""
        if self.hosts is None or other.hosts is None or self.hosts == other.hosts:
            return Permission(other.hosts if self.hosts is None else self.hosts)
        return Permission(tuple(each for each in self.hosts if each in other.hosts))


@dataclass(frozen=True, slots=True)
class SecretPolicy:
    """The grants of each secret, by its name or a pattern such as `STRIPE_*`."""

    grants: Mapping[str, tuple[Grant, ...]]

    def of(self, name: str) -> list[Grant]:
        """Return the grants of a secret."""
        real = identity(name)
        return [
            grant
            for given, found in self.grants.items()
            if identity(given) == real or (ANY in given and fnmatchcase(real, given))
            for grant in found
        ]

    def permit(
        self, name: str, authors: Sequence[Author] | None, executor: str | None, *, can_bind: bool = True
    ) -> Permission:
        """Return where a secret may be sent that a tree uses.

        Args:
            authors: who wrote the tree; None for a tree that comes from this machine.
            executor: the executor that gets the secret; None where it is not known yet.
            can_bind: whether the executor connects through the network policy only.

        Raises:
            SecretRefusedError: an author, or the executor, may not have it.
        """
        grants = self.of(name)
        permission = Permission()
        # This machine is a subject like an administrator: grants bind it to executors and hosts only.
        for author in authors if authors is not None else (Author("", (ADMIN,)),):
            own = [each for each in grants if each.is_for(author)]
            if not own and not author.is_admin:
                raise SecretRefusedError(name, f"user {author.user!r} is not granted it. {_ADVICE}")
            if executor is not None:
                covering = [each for each in own if each.covers(executor, can_bind=can_bind)]
                if own and not covering:
                    raise SecretRefusedError(name, _executor_fault(executor, own))
                own = covering
            if own and all(each.hosts for each in own):
                hosts = dict.fromkeys(host for each in own for host in each.hosts)
                permission = permission.narrowed(Permission(tuple(hosts)))
        return permission


def _executor_fault(executor: str, grants: Sequence[Grant]) -> str:
    if all(each.executors for each in grants):
        return f"its grant does not name the executor {executor!r}. {_ADVICE}"
    return (
        f"its grant names hosts, and {executor!r} cannot be kept from sending it elsewhere. Name that "
        "executor in the grant to permit it all the same."
    )


def identity(name: str) -> str:
    """Return what a name of a secret stands for: a variable of the environment, else the name itself."""
    for each in (name, re.sub(r"\W", "_", name.upper())):
        if is_variable(each):
            return each
    return name


def is_variable(name: str) -> bool:
    """Return whether a variable of the environment holds the secret of this name."""
    return PREFIX + name in os.environ and PREFIX + name not in VARIABLES


def secret_policy(settings: Settings | None = None) -> SecretPolicy:
    """Return the policy that settings name; by default as they are at this moment.

    Raises:
        SettingsError: it cannot be read.
    """
    given = (settings or settings_now("secret_policy")).secret_policy.strip()
    return _SETTING.policy(given) if given else _EMPTY


_EMPTY: Final = SecretPolicy({})


def read_policy(content: object, where: str) -> SecretPolicy:
    """Return the policy that a document describes.

    Raises:
        SettingsError: it has another form.
    """
    if not isinstance(content, dict):
        raise SettingsError(f"{where} must be an object of grants by the name of the secret.")
    entries = cast("dict[str, object]", content)
    return SecretPolicy({name: tuple(_grants(value, f"{where}: {name}")) for name, value in entries.items()})


_SETTING: Final = PolicySetting(
    VARIABLE,
    "The secret policy",
    '{"NAME": {"users": [...], "roles": [...], "executors": [...], "hosts": [...]}}',
    read_policy,
)


def _grants(value: object, where: str) -> Iterator[Grant]:
    for each in cast("list[object]", value) if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            raise SettingsError(
                f"{where} must be a grant (an object with {', '.join(_KEYS)}) or a list of grants."
            )
        yield _grant(cast("dict[str, object]", each), where)


def _grant(given: Mapping[str, object], where: str) -> Grant:
    unknown = sorted(given.keys() - _KEYS)
    if unknown:
        raise SettingsError(f"{where} has an unknown key {unknown[0]!r}. A grant has: {', '.join(_KEYS)}.")
    values: dict[str, Any] = {key: _names(value, f"{where}.{key}") for key, value in given.items()}
    for host in values.get("hosts", ()):
        _check_host(host, where)
    return Grant(**values)


def _names(value: object, where: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(
        isinstance(each, str) and each for each in cast("list[Any]", names)
    ):
        raise SettingsError(f"{where} must be a list of names.")
    if not names:
        # An empty list reads like "none" and would mean "any".
        raise SettingsError(f"{where} is empty. Leave the key out, or name something.")
    return tuple(cast("list[str]", names))


_KEYS: Final = tuple(each.name for each in fields(Grant))


def _check_host(entry: str, where: str) -> None:
    name, _ = _split(entry)
    if _network(name) is None and not _HOST.fullmatch(name):
        raise SettingsError(
            f"{where}.hosts names {entry!r}, which is neither a host (db.example.com, *.example.com) nor an "
            "address or a network. A port may follow: db.example.com:5432, [::1]:80."
        )


@cache
def _split(entry: str) -> tuple[str, int | None]:
    """Return the host and the port of an entry."""
    found = re.fullmatch(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:]+))(?::(?P<port>\d{1,5}))?", entry)
    if found is None:
        return entry, None  # an IPv6 address without brackets
    return found["six"] or found["name"], int(found["port"]) if found["port"] else None


@cache
def _network(text: str) -> Any:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_host(entry: str, host: str, port: int | None) -> bool:
    name, wanted = _split(entry)
    if wanted is not None and wanted != port:
        return False
    network = _network(name)
    if network is not None:
        try:
            address = ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return address in network
    given, pattern = host.rstrip(".").casefold(), name.rstrip(".").casefold()
    if pattern.startswith("*."):
        return given.endswith(pattern[1:]) and given != pattern[1:]
    return pattern in (ANY, given)
