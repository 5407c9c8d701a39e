"""Where the server listens, whether it may, and which proxies it believes."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, ip_network
from typing import Final, NamedTuple

from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.net.connect import with_port
from apflow.core.settings import Settings
from apflow.server.http.protection import has_auth, read_address

BACKLOG = 2048
OWN_PROXIES: Final = ("127.0.0.1", "::1")


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return with_port(self.host, self.port)


class CannotListenError(InvalidInputError, OSError):
    """The address cannot be listened at."""

    def __init__(self, place: Place, cause: str) -> None:
        super().__init__(
            f"Listening at {place} is not possible: {cause}. Choose another place with --host and --port, "
            "or APFLOW_BIND."
        )
        self.place = place


def read_place(text: str, setting: str = "APFLOW_BIND") -> Place:
    """Return the parts of `host:port`. An IPv6 address is enclosed in brackets.

    Args:
        setting: the name of the setting, for the error.

    Raises:
        SettingsError: it is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise SettingsError(f"{setting} is {text!r}, which is not host:port, as 127.0.0.1:8000 is.")
    return Place(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - what an empty host means


def local_url(place: Place) -> str | None:
    """Return the loopback address at which a server that listens at a place is reached; None if at none."""
    address = read_address(place.host)
    if address is None or not (address.is_loopback or address.is_unspecified):
        return None
    loopback = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{Place(loopback if address.is_unspecified else str(address), place.port)}"


def check_place(place: Place, settings: Settings) -> None:
    """Check that callers from other machines must authenticate.

    Raises:
        SettingsError: that would be so.
    """
    address = read_address(place.host)
    is_local = place.host == "localhost" or (address is not None and address.is_loopback)
    if not is_local and not has_auth(settings) and not settings.insecure:
        raise SettingsError(
            f"Any client that reaches {place} could run anything here, because authentication is off. Set "
            "APFLOW_JWT_SECRET or APFLOW_JWKS_URL, listen on 127.0.0.1, or allow this with --insecure."
        )


def proxies_of(settings: Settings) -> list[str]:
    """Return the addresses and networks whose `X-Forwarded-For` names the caller of a request.

    They are proxies of this machine, and those of the setting `trusted_proxies`. `["*"]` means any address.

    Raises:
        SettingsError: a part of the setting is neither an address nor a network.
    """
    if "*" in settings.trusted_proxies:
        return ["*"]
    found = [*OWN_PROXIES]
    for each in settings.trusted_proxies:
        try:
            network = ip_network(each)
        except ValueError as error:
            raise SettingsError(
                f"APFLOW_TRUSTED_PROXIES names {each!r}, which is neither an address nor a network, such as "
                f"10.0.0.7 or 10.0.0.0/24: {error}."
            ) from error
        found.append(str(network))
        if isinstance(network, IPv4Network):  # as a socket that takes both versions reports it
            found.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return found


def listen(place: Place) -> socket.socket:
    """Return a socket that is bound to a place; connections to it wait until it is served.

    Raises:
        CannotListenError: the address is not available.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        # Only with the protocol named does asyncio send answers at once (TCP_NODELAY): else each waits 40 ms.
        bound = socket.socket(family, kind, proto)
    except OSError as error:
        raise CannotListenError(place, error.strerror or str(error)) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise CannotListenError(place, error.strerror or str(error)) from error
    return bound
