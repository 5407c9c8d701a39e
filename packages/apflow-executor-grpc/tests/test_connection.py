import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from peers.grpcserver import PROTOS, Peer, serve, serve_in_process

from apflow.core.errors import AddressRefusedError, FileRefusedError, HostNotFoundError, HostUnreachableError
from apflow.executor.grpc import (
    GrpcCallError,
    GrpcExecutor,
    GrpcInputError,
    GrpcTimeoutError,
    GrpcUnavailableError,
    channel,
)
from apflow.testing.proxy import a_proxy

DEMO = {name: text for name, text in PROTOS.items() if name.startswith("demo/")}
GREETING = {"text": "Hello you"}


async def run(inputs: dict[str, Any]) -> dict[str, Any]:
    return await GrpcExecutor().execute(inputs)


async def greet(peer: Peer, **more: Any) -> Any:
    return (await run(peer.inputs("Greet", {"name": "you"}, **more)))["response"]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def threads() -> int:
    """Count threads, less those in which asyncio looks names up: it starts some of them late."""
    return sum(not each.name.startswith("asyncio_") for each in threading.enumerate())


# Where it connects to


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "017700000001", "127.1", "0",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[::]", "10.0.0.1", "192.168.1.1", "169.254.1.1",
        "[fd00::1]", "[fe80::1]", "100.64.0.1", "224.0.0.1",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused_where_only_the_public_internet_is_permitted(
    peer: Peer, host: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    with pytest.raises(AddressRefusedError, match="APFLOW_NET_ALLOW"):
        await greet(peer, server=f"{host}:{peer.port}")
    assert not peer.connections
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
    assert await greet(peer) == GREETING


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "2852039166"])
async def test_metadata_addresses_of_clouds_are_always_refused(peer: Peer, host: str):
    with pytest.raises(AddressRefusedError):
        await greet(peer, server=f"{host}:80")


@pytest.mark.parametrize(
    "server",
    [
        "unix:/tmp/socket", "unix:///tmp/socket", "unix-abstract:name", "vsock:1:2", "dns:///localhost:1",
        "dns:localhost:1", "ipv4:127.0.0.1:1", "xds:///x:1", "http://localhost:1", "user@localhost:1",
        "localhost", "localhost:", ":1", "localhost:0", "localhost:65536", "localhost:1,127.0.0.1:2",
        "::1:50051", "[::1]", "[::1%25lo]:1", "[1:2]:3", "a b:1", "localhost:1\n", "localhost:1/path",
        "localhost:\uff11",
    ],
)  # fmt: skip
async def test_what_is_no_address_of_a_tcp_server_is_refused(peer: Peer, server: str):
    with pytest.raises(GrpcInputError, match="server"):
        await greet(peer, server=server)


async def test_a_name_is_resolved_once_and_the_connection_made_to_what_was_judged(
    monkeypatch: pytest.MonkeyPatch,
):
    answers = iter(["127.0.0.2", "127.0.0.1"])

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("APFLOW_NET_POLICY", "public")
    monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.2")
    async with serve(host="127.0.0.2") as peer:
        assert await greet(peer, server=f"rebinding.test:{peer.port}") == GREETING
        with pytest.raises(AddressRefusedError):
            await greet(peer, server=f"rebinding.test:{peer.port}")


async def test_a_server_at_one_family_of_the_addresses_of_its_host_is_found(
    monkeypatch: pytest.MonkeyPatch,
):
    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.3", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with serve() as peer:
        assert await greet(peer, server=f"both.test:{peer.port}") == GREETING
        free = peer.port
    with pytest.raises(HostUnreachableError):
        await greet(peer, server=f"both.test:{free}")


async def test_proxies_of_the_environment_are_not_used(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await greet(peer) == GREETING


async def test_a_host_without_an_address_is_told(peer: Peer):
    with pytest.raises(HostNotFoundError):
        await greet(peer, server="no-such-host.invalid:1")


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(certificate: trustme.LeafCert) -> tuple[str, str]:
    """Return the certificate and its key."""
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    return chain.decode(), certificate.private_key_pem.bytes().decode()


@asynccontextmanager
async def serve_tls(authority: trustme.CA, *names: str, wants_client: bool = False) -> AsyncIterator[Peer]:
    chain, key = pem(authority.issue_cert(*names))
    root = authority.cert_pem.bytes() if wants_client else None
    pair = (key.encode(), chain.encode())
    credentials = grpc.ssl_server_credentials([pair], root, require_client_auth=wants_client)
    async with serve(credentials=credentials) as peer:
        yield peer


async def test_tls_with_a_private_authority(authority: trustme.CA, tmp_path: Path):
    root = authority.cert_pem.bytes().decode()
    file = tmp_path / "ca.pem"
    file.write_text(root)
    async with serve_tls(authority, "127.0.0.1") as peer:
        assert await greet(peer, tls={"ca": root}) == GREETING
        assert await greet(peer, tls={"ca": str(file)}) == GREETING


async def test_a_certificate_for_another_name_is_trusted_only_when_that_is_named(authority: trustme.CA):
    root = authority.cert_pem.bytes().decode()
    async with serve_tls(authority, "payments.internal") as peer:
        assert await greet(peer, tls={"ca": root, "server_name": "payments.internal"}) == GREETING
        for name in ({}, {"server_name": "other.internal"}):
            with pytest.raises(GrpcUnavailableError, match="TLS"):
                await greet(peer, tls={"ca": root, **name})
        assert len(peer.connections) == 1


async def test_a_server_of_an_unknown_authority_is_not_trusted(authority: trustme.CA):
    async with serve_tls(authority, "127.0.0.1") as peer:
        for tls in ({}, {"ca": trustme.CA().cert_pem.bytes().decode()}):
            with pytest.raises(GrpcUnavailableError):
                await greet(peer, tls=tls)
        assert not peer.connections


async def test_plain_and_encrypted_do_not_mix(authority: trustme.CA, peer: Peer):
    async with serve_tls(authority, "127.0.0.1") as encrypted:
        with pytest.raises(GrpcUnavailableError, match="TLS"):
            await greet(encrypted)
    with pytest.raises(GrpcUnavailableError):
        await greet(peer, tls={})
    assert await greet(peer, tls={"enabled": False}) == GREETING


async def test_a_client_shows_its_certificate(authority: trustme.CA):
    root = authority.cert_pem.bytes().decode()
    cert, key = pem(authority.issue_cert("client@example.com"))
    strange_cert, strange_key = pem(trustme.CA().issue_cert("client@example.com"))
    async with serve_tls(authority, "127.0.0.1", wants_client=True) as peer:
        assert await greet(peer, tls={"ca": root, "cert": cert, "key": key}) == GREETING
        for tls in ({}, {"cert": strange_cert, "key": strange_key}, {"cert": cert, "key": strange_key}):
            with pytest.raises(GrpcUnavailableError) as caught:
                await greet(peer, tls={"ca": root, **tls})
            assert strange_key[40:60] not in str(caught.value)


@pytest.mark.parametrize(
    ("tls", "fault"),
    [
        ({"ca": "hunter2"}, r"tls\.ca is neither"),
        ({"ca": "x" * 5000}, r"tls\.ca"),
        ({"ca": "a\0b"}, r"tls\.ca"),
        ({"ca": "/dev/zero"}, r"'tls\.ca' is refused"),
        ({"ca": "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----"}, r"tls\.ca holds no"),
        ({"cert": "-----BEGIN hunter2"}, r"tls\.key is missing"),
        ({"key": "-----BEGIN hunter2"}, r"tls\.cert is missing"),
        ({"server_name": "a b"}, r"tls\.server_name"),
    ],
)
async def test_what_cannot_secure_a_connection_is_refused_and_not_told(
    peer: Peer, tls: dict[str, Any], fault: str
):
    with pytest.raises((GrpcInputError, FileRefusedError), match=fault) as caught:
        await greet(peer, tls=tls)
    assert "hunter2" not in str(caught.value)


async def test_a_key_that_is_none_is_refused_and_not_told(authority: trustme.CA, peer: Peer):
    cert, _ = pem(authority.issue_cert("client@example.com"))
    for key in ("-----BEGIN hunter2", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter2"):
        with pytest.raises(GrpcInputError, match=r"tls\.key") as caught:
            await greet(peer, tls={"cert": cert, "key": key})
        assert "hunter2" not in str(caught.value)


# Peers that fail


async def test_nobody_at_the_address_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(GrpcUnavailableError, match=r"UNAVAILABLE.*refused.*server runs"):
            await greet(Peer(), server=f"127.0.0.1:{port}")


async def test_wrong_credentials_are_told_and_not_repeated(peer: Peer):
    right = {"Authorization": f"Bearer {peer.token}"}
    assert (await run(peer.inputs("Private", {}, metadata=right)))["response"] == {"text": "Welcome"}
    with pytest.raises(GrpcCallError, match="UNAUTHENTICATED") as caught:
        await run(peer.inputs("Private", {}, metadata={"authorization": "Bearer hunter2"}))
    assert "hunter2" not in f"{caught.value} {vars(caught.value)}"
    with pytest.raises(GrpcCallError, match="UNAUTHENTICATED: no entry with None"):
        await run(peer.inputs("Private", {}))


@asynccontextmanager
async def mute_server() -> AsyncIterator[int]:
    """Run a server that takes connections and never says a word."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def test_a_peer_that_never_says_a_word_costs_no_more_than_the_timeout():
    async with mute_server() as port:
        async with asyncio.timeout(30):
            with pytest.raises(GrpcTimeoutError, match=r"over 0\.3 s"):
                await greet(Peer(), server=f"127.0.0.1:{port}", timeout=0.3)


async def test_a_call_that_takes_too_long_is_gone_at_the_server(peer: Peer):
    with pytest.raises(GrpcTimeoutError, match=r"Demo/Sleep at .*DEADLINE_EXCEEDED: it took over 0\.3 s"):
        await run(peer.inputs("Sleep", "60s", timeout=0.3))
    assert peer.calls["Sleep"] == 1
    await peer.until_active("Sleep", 0)


async def test_a_very_long_timeout_is_no_short_one(peer: Peer):
    assert await greet(peer, timeout=1e300) == GREETING


async def test_a_server_that_dies_in_the_middle_of_a_stream_fails_the_call():
    with serve_in_process() as (process, port):
        inputs = Peer(port).inputs("Endless", {"bytes": 1}, max_output_bytes=8 << 20)
        executor = GrpcExecutor()
        running = asyncio.ensure_future(executor.execute(inputs))
        async with asyncio.timeout(30):
            while not (executor._answer and executor._answer.responses):
                await asyncio.sleep(0.01)
        process.kill()
        with pytest.raises(GrpcUnavailableError, match="UNAVAILABLE"):
            await running
        with pytest.raises(GrpcUnavailableError):
            await greet(Peer(port))


async def test_a_server_that_is_back_is_called_at_once():
    async with serve() as peer:
        assert await greet(peer) == GREETING
    for _ in range(3):
        with pytest.raises(GrpcUnavailableError):
            await greet(peer)
    async with serve(port=peer.port):
        assert await greet(peer) == GREETING


# Cancelling


@pytest.mark.parametrize(
    ("method", "request_"), [("Sleep", "60s"), ("Endless", {"bytes": 1}), ("Sum", [{"number": 1}] * 3)]
)
async def test_a_cancelled_call_is_gone_at_the_server(peer: Peer, method: str, request_: Any):
    await greet(peer)
    if method == "Sum":
        peer.hold.clear()
    running = asyncio.ensure_future(run(peer.inputs(method, request_, max_output_bytes=8 << 20)))
    await peer.until_active(method, 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await peer.until_active(method, 0)
    assert peer.cancelled[method] == 1
    assert await greet(peer) == GREETING


async def test_cancelling_one_call_leaves_the_others_of_its_connection_alone(peer: Peer):
    await greet(peer)
    others = [asyncio.ensure_future(run(peer.inputs("Sleep", "0.5s"))) for _ in range(5)]
    one = asyncio.ensure_future(run(peer.inputs("Sleep", "60s")))
    await peer.until_active("Sleep", 6)
    one.cancel()
    assert all(result["success"] for result in await asyncio.gather(*others))
    with pytest.raises(asyncio.CancelledError):
        await one


async def test_cancelling_while_the_server_describes_itself_ends_that():
    async with mute_server() as port:
        running = asyncio.ensure_future(greet(Peer(), server=f"127.0.0.1:{port}"))
        await asyncio.wait([running], timeout=0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_cancelling_while_a_file_is_compiled_ends_the_compiler(peer: Peer):
    for seconds in (0, 0.001, 0.01, 0.03):
        running = asyncio.ensure_future(greet(peer, proto_file=DEMO))
        await asyncio.wait([running], timeout=seconds)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await greet(peer, proto_file=DEMO) == GREETING


async def test_what_has_come_until_a_cancellation_is_kept(peer: Peer):
    executor = GrpcExecutor()
    inputs = peer.inputs("Watch", {}, service="grpc.health.v1.Health")
    running = asyncio.ensure_future(executor.execute(inputs))
    async with asyncio.timeout(30):
        while not (executor._answer and executor._answer.responses):
            await asyncio.sleep(0.01)
    assert await executor.cancel() == {
        "status": "cancelled",
        "partial_result": {"responses": [{"status": "SERVING"}]},
    }
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# Many


async def test_200_calls_at_once_share_one_connection_and_one_description(peer: Peer):
    results = await asyncio.gather(*(run(peer.inputs("Greet", {"name": str(n)})) for n in range(200)))
    assert [each["response"]["text"] for each in results] == [f"Hello {n}" for n in range(200)]
    assert len(peer.connections) == 1
    assert peer.reflected["v1alpha"] == 1


async def test_1000_calls_in_a_row_leave_nothing_behind(peer: Peer):
    await greet(peer)
    before = descriptors(), threads()
    for number in range(1000):
        if number % 10:
            await greet(peer)
        else:
            with pytest.raises(GrpcCallError):
                await run(peer.inputs("Fail", {"code": 5, "message": "no"}))
    assert descriptors() <= before[0]
    assert threads() <= before[1]
    assert len(peer.connections) == 1
    assert peer.active.total() == 0


async def test_100_failed_connections_leave_nothing_behind(peer: Peer):
    await greet(peer)
    before = descriptors(), threads()
    for _ in range(100):
        with pytest.raises(GrpcUnavailableError):
            await greet(peer, server="127.0.0.1:1")
        with pytest.raises(GrpcTimeoutError):
            await run(peer.inputs("Sleep", "60s", timeout=0.005))
    await peer.until_active("Sleep", 0)
    async with asyncio.timeout(30):  # the library closes sockets in its own threads
        while descriptors() > before[0] + 2:
            await asyncio.sleep(0.01)
    assert threads() <= before[1]


async def test_unused_channels_are_closed_when_they_are_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(channel, "MAX_CHANNELS", 2)
    async with serve(host="0.0.0.0") as peer:
        for number in range(1, 6):
            assert await greet(peer, server=f"127.0.0.{number}:{peer.port}") == GREETING
        assert len((await channel.channels.get())._held) == 2


async def test_an_idle_connection_is_closed(peer: Peer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(channel, "IDLE_SECONDS", 1)
    await greet(peer)
    before = descriptors()
    async with asyncio.timeout(30):
        while descriptors() >= before:
            await asyncio.sleep(0.05)
    assert await greet(peer) == GREETING


def test_it_works_on_one_event_loop_after_the_other_and_on_several_at_once():
    with serve_in_process() as (_, port):

        async def calls() -> list[Any]:
            return [await greet(Peer(port)) for _ in range(20)]

        results: list[list[Any]] = [asyncio.run(calls()), asyncio.run(calls())]
        started = [threading.Thread(target=lambda: results.append(asyncio.run(calls()))) for _ in range(3)]
        before = descriptors()
        for thread in started:
            thread.start()
        for thread in started:
            thread.join(30)
    assert results == [[GREETING] * 20] * 5
    assert descriptors() <= before


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("is_handled", [False, True])
async def test_a_call_whose_connection_is_lost_is_not_sent_again(
    peer: Peer, *, is_kept: bool, is_handled: bool
):
    """gRPC repeats by itself only what never reached a server: no service configuration permits more."""
    with a_proxy(("127.0.0.1", peer.port)) as proxy:
        inputs = peer.inputs("Greet", {"name": "you"}, protos=DEMO, timeout=10)
        inputs |= {"server": f"127.0.0.1:{proxy.port}"}
        if is_kept:
            await run(inputs)
        before = peer.calls["Greet"]

        def is_call(piece: bytes) -> bool:
            return b"you" in piece

        if is_handled:
            proxy.cut_after = is_call
        else:
            proxy.cut_before = is_call
        with pytest.raises(GrpcUnavailableError):
            await run(inputs)
        assert peer.calls["Greet"] - before <= int(is_handled)
