"""Outgoing connections: every connection of an executor is made to an address that the policy has checked.

The name is resolved here, once, and the connection is made to the checked address. Resolving it again could
return another address.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from apflow.core.errors import AddressRefusedError, HostNotFoundError, HostUnreachableError
from apflow.core.net.policy import NetPolicy, read_policy
from apflow.core.permissions.origin import check_host
from apflow.core.settings import read_settings, settings_state

NEXT_AFTER = 0.25  # seconds until the next address is tried beside the one before (RFC 8305, section 5)


class Endpoint(NamedTuple):
    """An address that may be connected to."""

    family: socket.AddressFamily
    address: str  # without a zone
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

    @property
    def address_in_uri(self) -> str:
        """The address as in a URI, with its zone if it has one (RFC 6874), without brackets."""
        zone = self.sockaddr[3] if len(self.sockaddr) > 2 else 0
        return f"{self.address}%25{zone}" if zone else self.address


def net_policy() -> NetPolicy:
    """Return the current policy, so that no connection uses an outdated one.

    Raises:
        SettingsError: `APFLOW_NET_POLICY` or `APFLOW_NET_ALLOW` cannot be read.
    """
    return _policy_at(settings_state("net_policy", "net_allow"))


@lru_cache(maxsize=8)
def _policy_at(_: object) -> NetPolicy:
    settings = read_settings()
    return read_policy(settings.net_policy, settings.net_allow)


async def resolve(host: str, port: int, policy: NetPolicy | None = None) -> list[Endpoint]:
    """Return the addresses of a host that may be connected to, best first (RFC 6724).

    Args:
        policy: `net_policy()` if None.

    Raises:
        SecretHostRefusedError: the task that runs holds a secret that is not granted for the host.
        AddressRefusedError: the policy forbids all of them.
        HostNotFoundError: the host has no address.
    """
    check_host(host, port)
    policy = policy or net_policy()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host is called that
        raise HostNotFoundError(host, str(error)) from error
    permitted: list[Endpoint] = []
    refused: list[AddressRefusedError] = []
    for family, _, _, _, sockaddr in found:
        address = str(sockaddr[0]).partition("%")[0]
        try:
            policy.check(host, address)
        except AddressRefusedError as error:
            refused.append(error)
        else:
            permitted.append(Endpoint(family, address, sockaddr))
    if permitted:
        return permitted
    raise refused[0] if refused else HostNotFoundError(host, "it has no address")


def with_port(host: str, port: int) -> str:
    """Return a host or an address with a port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def grpc_uri(addresses: Sequence[str], port: int) -> str:
    """Return addresses of one family as the target of a gRPC channel, which then resolves nothing."""
    scheme = "ipv6" if ":" in addresses[0] else "ipv4"
    return f"{scheme}:{','.join(with_port(each, port) for each in addresses)}"


async def resolve_one_family(host: str, port: int) -> list[Endpoint]:
    """Return the addresses of a host that may be connected to, all of one family.

    For libraries that take addresses of one family only. If a host has both, it is connected to, in order to
    find the family in which it listens.

    Raises:
        AddressRefusedError, HostNotFoundError, SecretHostRefusedError: see `resolve`.
        HostUnreachableError: it has addresses of both families, and none answers.
    """
    endpoints = await resolve(host, port)
    families = {each.family for each in endpoints}
    if len(families) > 1:
        with await connect(host, port, endpoints) as connection:
            families = {socket.AddressFamily(connection.family)}
    return [each for each in endpoints if each.family in families]


async def open_socket(host: str, port: int, policy: NetPolicy | None = None) -> socket.socket:
    """Return a connected, non-blocking TCP socket. The caller closes it, and sets the time limit.

    Raises:
        AddressRefusedError: the policy forbids every address of the host.
        HostNotFoundError: the host has no address.
        HostUnreachableError: none of its addresses can be reached.
    """
    return await connect(host, port, await resolve(host, port, policy))


async def connect(host: str, port: int, endpoints: Sequence[Endpoint]) -> socket.socket:
    """Return a socket that is connected to one of these endpoints; see `open_socket`."""
    from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]

    addresses = [
        (each.family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", each.sockaddr) for each in endpoints
    ]
    try:
        return await start_connection(addresses, happy_eyeballs_delay=NEXT_AFTER)
    except OSError as error:
        raise HostUnreachableError(host, port, error.strerror or str(error)) from error
