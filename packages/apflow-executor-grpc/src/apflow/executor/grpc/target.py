"""Where a call goes: the server's name, the addresses that were judged, and how the connection is secured."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any

from apflow.core.errors import FileRefusedError
from apflow.core.net.connect import grpc_uri, resolve_one_family, with_port
from apflow.core.permissions.file_policy import read_file
from apflow.executor.grpc.errors import GrpcInputError

MAX_PEM_BYTES = 1 << 20

_SERVER = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9a-fA-F:.]+\]?")
_PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class Tls:
    """What secures a connection. None as authority: those that gRPC trusts by itself."""

    ca: bytes | None = None
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None  # to be found in the certificate, instead of the host


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a task names it."""

    host: str
    port: int
    tls: Tls | None = None

    @property
    def shown(self) -> str:
        """The server for people."""
        return with_port(self.host, self.port)

    @property
    def authority(self) -> str:
        """What the server is called in each call, and by which its certificate is checked."""
        return with_port((self.tls.server_name if self.tls else None) or self.host, self.port)


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the addresses of it that may be connected to: all of one family."""

    server: Server
    addresses: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The addresses as gRPC takes them: nothing is left for it to resolve."""
        return grpc_uri(self.addresses, self.server.port)


async def read_server(text: str, tls: Mapping[str, Any] | None) -> Server:
    """Return the server that a task names.

    Raises:
        GrpcInputError: it is not a valid address, or `tls` cannot be used.
    """
    found = _SERVER.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 1 << 16:
        raise GrpcInputError(
            f"server {text[:200]!r}",
            "is not a valid address. Write host:port or [IPv6 address]:port; only TCP is supported.",
        )
    if found["six"]:
        try:
            IPv6Address(found["six"])
        except ValueError as error:
            raise GrpcInputError(f"server {text!r}", f"is not a valid address: {error}.") from error
    secured = None if tls is None else await read_tls(tls)
    return Server(found["six"] or found["name"], int(found["port"]), secured)


async def read_tls(given: Mapping[str, Any]) -> Tls | None:
    """Return what secures the connection; None where TLS is turned off.

    Raises:
        GrpcInputError: something is missing or no PEM.
    """
    if not given.get("enabled", True):
        return None
    ca, cert, key = [await _pem(name, given.get(name)) for name in ("ca", "cert", "key")]
    if (cert is None) != (key is None):
        lacking = "cert" if cert is None else "key"
        raise GrpcInputError(f"tls.{lacking}", "is missing: a certificate and its key come together.")
    for name, certificates in (("ca", ca), ("cert", cert)):
        if certificates is not None:
            _check_certificates(name, certificates)
    if key is not None and (b"PRIVATE KEY-----" not in key or b"ENCRYPTED" in key):
        raise GrpcInputError("tls.key", "is not a private key in PEM, or is encrypted.")
    server_name = given.get("server_name")
    if server_name is not None and not _NAME.fullmatch(server_name):
        raise GrpcInputError(f"tls.server_name {server_name[:200]!r}", "is not a valid host name.")
    return Tls(ca, cert, key, None if server_name is None else server_name.strip("[]"))


async def _pem(name: str, given: str | None) -> bytes | None:
    """Return the PEM that is given, or that is in the file whose path is given."""
    if given is None:
        return None
    if _PEM in given:
        return given.encode("utf-8", "replace")
    # Errors do not repeat the path: it may be half a key.
    try:
        return await read_file(given, MAX_PEM_BYTES)
    except FileRefusedError as error:
        raise FileRefusedError(f"tls.{name}", error.reason) from None
    except (FileNotFoundError, NotADirectoryError):
        raise GrpcInputError(f"tls.{name}", "is neither a PEM string nor the path of a PEM file.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path"
        raise GrpcInputError(f"tls.{name}", f"cannot be read: {why}.") from None


def _check_certificates(name: str, certificates: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificates.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise GrpcInputError(f"tls.{name}", "holds no certificate in PEM that can be read.") from error


async def judge(server: Server) -> Target:
    """Return where the server may be reached now.

    Raises:
        AddressRefusedError: the network policy forbids all its addresses.
        HostNotFoundError: the name does not resolve.
        HostUnreachableError: it has addresses of both families and answers at none.
    """
    endpoints = await resolve_one_family(server.host, server.port)
    return Target(server, tuple(dict.fromkeys(each.address_in_uri for each in endpoints)))
