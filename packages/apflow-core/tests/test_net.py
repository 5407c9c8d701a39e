import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from apflow.core.errors import AddressRefusedError, HostNotFoundError, HostUnreachableError
from apflow.core.net.connect import Endpoint, open_socket, resolve, resolve_one_family


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a server at 127.0.0.1 that says hello."""

    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_connection_is_made(port: int):
    with await open_socket("localhost", port) as connected:
        assert await asyncio.get_running_loop().sock_recv(connected, 10) == b"hello"


# Every way to write 127.0.0.1 that the system's resolver takes.
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "::ffff:127.0.0.1"]
)
async def test_the_policy_is_asked_for_what_a_name_resolves_to(
    host: str, port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    with pytest.raises(AddressRefusedError):
        await open_socket(host, port)
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.0/8,::1")
    (await open_socket(host, port)).close()


async def test_the_permitted_addresses_of_a_host_are_returned():
    [endpoint] = await resolve("127.0.0.1", 80)
    assert (endpoint.family, endpoint.address) == (socket.AF_INET, "127.0.0.1")


async def test_the_addresses_of_one_family_are_those_where_the_host_listens(
    port: int, monkeypatch: pytest.MonkeyPatch
):
    async def both(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    assert [each.address for each in await resolve_one_family("both.example", port)] == ["127.0.0.1"]


def test_an_address_in_a_uri_has_its_zone():
    assert Endpoint(socket.AF_INET6, "fe80::1", ("fe80::1", 80, 0, 2)).address_in_uri == "fe80::1%252"
    assert Endpoint(socket.AF_INET, "10.0.0.1", ("10.0.0.1", 80)).address_in_uri == "10.0.0.1"


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "..", "with space"])
async def test_a_host_without_an_address_is_named(host: str):
    with pytest.raises(HostNotFoundError) as caught:
        await open_socket(host, 80)
    assert caught.value.host == host


async def test_the_error_names_a_port_without_a_listener(port: int):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(HostUnreachableError, match="Check that the server runs"):
            await open_socket("127.0.0.1", unused.getsockname()[1])
