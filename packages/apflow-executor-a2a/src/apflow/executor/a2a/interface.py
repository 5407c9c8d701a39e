"""Which interface of an agent card is used. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import httpx
from a2a.types.a2a_pb2 import AgentCard, AgentInterface
from packaging.version import InvalidVersion, Version

from apflow.executor.a2a.address import AgentAddress
from apflow.executor.a2a.errors import A2aInterfaceError

BINDINGS: Final = {"jsonrpc": "JSONRPC", "http+json": "HTTP+JSON", "grpc": "GRPC"}
GRPC: Final = BINDINGS["grpc"]
_PORTS: Final = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_SECURE: Final = ("https", "grpcs")


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of an agent."""

    binding: str  # a value of `BINDINGS`
    url: str
    version: str
    tenant: str
    host: str
    port: int
    is_secure: bool

    @property
    def transport(self) -> str:
        """The name of the transport in inputs and results."""
        return next(name for name, binding in BINDINGS.items() if binding == self.binding)

    @property
    def shown(self) -> str:
        """The URL for people."""
        return self.url.partition("?")[0][:200]


def choose_interface(
    card: AgentCard, address: AgentAddress, transport: str | None, trusted_hosts: Collection[str]
) -> Interface:
    """Return the interface to use: of the first usable transport of the card, the latest version.

    Messages and credentials go to the interface. A card can therefore not name one on another host than its
    own, unless the task trusts that host, nor one without TLS if the card itself came over TLS.

    Args:
        transport: a key of `BINDINGS`; None: any.
        trusted_hosts: other hosts that the card may name.

    Raises:
        A2aInterfaceError: the card names no such interface.
    """
    wanted = [BINDINGS[transport]] if transport else list(BINDINGS.values())
    read = [_read(each, address) for each in card.supported_interfaces if each.protocol_binding in wanted]
    known = [each for each in read if each is not None]
    if not known:
        raise A2aInterfaceError(address.shown, _none_of(card, transport))
    hosts = {_machine(host) for host in (address.host, *trusted_hosts)}
    trusted = [each for each in known if _machine(each.host) in hosts]
    if not trusted:
        raise A2aInterfaceError(
            address.shown,
            f"it names {known[0].shown}, on another host. If messages and credentials may be sent there, "
            f"name the host {known[0].host!r} in `trusted_hosts`",
        )
    usable = [each for each in trusted if each.is_secure or not address.is_secure]
    if not usable:
        raise A2aInterfaceError(
            address.shown, f"it names {trusted[0].shown}, which has no TLS, although the card has it"
        )
    of_first = [each for each in usable if each.binding == usable[0].binding]
    return max(of_first, key=lambda each: _version(each.version) or Version("0"))


def _read(given: AgentInterface, address: AgentAddress) -> Interface | None:
    """Return an interface; None if its URL or its version is not usable."""
    version = given.protocol_version or "1.0"
    found = _version(version)
    if found is None or not Version("0.3") <= found < Version("2"):
        return None
    text = given.url
    if "://" not in text and given.protocol_binding == GRPC:
        text = f"{'grpcs' if address.is_secure else 'grpc'}://{text}"
    try:
        url = httpx.URL(text)
        port = url.port or _PORTS[url.scheme]
    except (httpx.InvalidURL, ValueError, KeyError):
        return None
    if not url.host or url.userinfo or (url.scheme.startswith("grpc") and given.protocol_binding != GRPC):
        return None
    return Interface(
        given.protocol_binding,
        given.url,
        version,
        given.tenant,
        url.host.lower(),
        port,
        url.scheme in _SECURE,
    )


def _machine(host: str) -> str:
    """Return a host as it is compared: the names of this machine are one."""
    name = host.lower().strip("[]").rstrip(".")
    return "localhost" if name in _LOOPBACK else name


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _none_of(card: AgentCard, transport: str | None) -> str:
    named = [f"{each.protocol_binding} {each.protocol_version}".strip() for each in card.supported_interfaces]
    offered = ", ".join(named)[:300] or "none"
    wanted = f"the transport {transport!r}" if transport else "a transport that apflow supports"
    return f"it names no interface with {wanted} and a version from 0.3 to 1.x (its interfaces: {offered})"
