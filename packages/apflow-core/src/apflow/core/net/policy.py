"""Which addresses may be connected to: decided for each address, never for a name alone.

A name says nothing about where a connection goes: it is resolved, and what it resolves to is judged, in
every notation that leads to the same machine. Pure; `net` asks it at connect time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from apflow.core.errors import AddressRefusedError, SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Rule = tuple[str, Network]

POLICIES = ("open", "public")


def _rules(*lines: str) -> tuple[Rule, ...]:
    return tuple(
        (what, ip_network(text)) for what, _, networks in (line.partition(": ") for line in lines)
        for text in networks.split()
    )  # fmt: skip


# Where clouds return credentials to any local client.
METADATA = _rules(
    "a metadata address of a cloud: 169.254.169.254 169.254.170.2 169.254.170.23 169.254.169.253 "
    "169.254.0.23 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254",
)
# What is not reached over the public Internet: the special-purpose address registries of IANA (RFC 6890),
# and what was deprecated but may still be routed.
PRIVATE = _rules(
    "a loopback address: 127.0.0.0/8 ::1",
    "this machine itself: 0.0.0.0/8 ::",
    "a private address: 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
    "a link-local address: 169.254.0.0/16 fe80::/10",
    "shared address space: 100.64.0.0/10",
    "a protocol assignment: 192.0.0.0/24 192.88.99.0/24 2001::/23 5f00::/16",
    "an address for documentation: 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    "an address for benchmarks: 198.18.0.0/15",
    "a multicast address: 224.0.0.0/4 ff00::/8",
    "a reserved address: 240.0.0.0/4",
    "a translation prefix of a local network: 64:ff9b:1::/48",
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
COMPATIBLE = IPv6Network("::/96")  # RFC 4291, section 2.5.5.1
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})  # RFC 5214, section 6.1

_HOST = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?")


@dataclass(frozen=True, slots=True)
class NetPolicy:
    """What may be connected to.

    With `is_public`, only what belongs to the public Internet; else all but the metadata addresses of
    clouds. `hosts` and `networks` permit more: a host whatever it resolves to, metadata apart, which is
    permitted by address only.
    """

    is_public: bool = False
    hosts: frozenset[str] = frozenset()  # `name`, or `*.name` for all below it
    networks: tuple[Network, ...] = ()

    def check(self, host: str, address: str) -> None:
        """Raise `AddressRefusedError` unless `address`, which `host` led to, may be connected to."""
        fault = self.fault_of(host, address)
        if fault is not None:
            raise AddressRefusedError(host, address, fault)

    def fault_of(self, host: str, address: str) -> str | None:
        """Return what forbids an address; None where nothing does."""
        try:
            seen = list(_views(ip_address(address.partition("%")[0])))
        except ValueError:
            return "no IP address"
        judged = [each for each in seen if not any(each in network for network in self.networks)]
        for each in judged:
            fault = _named(each, METADATA)
            if fault is not None:
                return fault
        if not self.is_public or self._permits(host):
            return None
        return next((fault for each in judged if (fault := _fault_in_public(each)) is not None), None)

    def _permits(self, host: str) -> bool:
        name = host.rstrip(".").casefold()
        parents = name.split(".")[1:]
        return name in self.hosts or any(
            f"*.{'.'.join(parents[at:])}" in self.hosts for at in range(len(parents))
        )


@cache
def read_policy(policy: str, allow: Sequence[str]) -> NetPolicy:
    """Return the policy of these settings.

    Raises:
        SettingsError: `policy` is unknown, or an entry of `allow` is neither a host nor a network.
    """
    if policy not in POLICIES:
        raise SettingsError(f'APFLOW_NET_POLICY is "open" or "public", not {policy!r}.')
    hosts: set[str] = set()
    networks: list[Network] = []
    for entry in allow:
        try:
            networks.append(ip_network(entry))
        except ValueError as error:
            if "/" in entry or not _HOST.fullmatch(entry):
                raise SettingsError(
                    f"APFLOW_NET_ALLOW names {entry!r}, which is neither a host (db.example.com, "
                    f"*.example.com) nor a network (10.1.0.0/16): {error}."
                ) from error
            hosts.add(entry.rstrip(".").casefold())
    return NetPolicy(policy == "public", frozenset(hosts), tuple(networks))


def _fault_in_public(address: Address) -> str | None:
    fault = _named(address, PRIVATE)
    if fault is None and address.version == 6 and address not in GLOBAL_UNICAST and address not in NAT64:
        return "outside what is routed on the public Internet"
    return fault


def _named(address: Address, rules: Sequence[Rule]) -> str | None:
    return next((what for what, network in rules if address in network), None)


def _views(address: Address) -> Iterator[Address]:
    """Yield an address and every other one that a packet to it may end up at."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped  # the same thing, written otherwise
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    low = int(address) & 0xFFFF_FFFF
    is_translated = address in NAT64 or address in LOCAL_NAT64 or (address in COMPATIBLE and low > 1)
    if is_translated or (int(address) >> 32) & 0xFFFF_FFFF in ISATAP:
        yield IPv4Address(low)
