"""The connections: used again where that is right, and gone when they should be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from apflow.core.errors import AddressRefusedError
from apflow.http import IDEMPOTENT, SENDING, GuardedTransport, Sending

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Counts connections, and answers a given number of requests on each.

    Then it closes, at once or, if it `lingers`, when it has heard the beginning of another request.
    """

    def __init__(self, answers: int, *, lingers: bool, reads: bool) -> None:
        self.url = ""
        self.accepted = self.ended = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._answers, self._lingers, self._reads = answers, lingers, reads

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        try:
            if not self._reads:
                await self._wait_for_reset(writer)
                return
            for _ in range(self._answers):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
            await writer.drain()
            if self._lingers:
                await reader.read(1)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended += 1
            writer.transport.abort()

    async def _wait_for_reset(self, writer: asyncio.StreamWriter) -> None:
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        sock = writer.get_extra_info("socket")
        while sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            await asyncio.sleep(0.01)

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not claim():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def peer_that(
    answers: int = 1 << 30, *, lingers: bool = False, reads: bool = True
) -> AsyncGenerator[Peer]:
    peer = Peer(answers, lingers=lingers, reads=reads)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield peer
    finally:
        server.close()
        await peer.until(lambda: peer.ended == peer.accepted)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def client(transport: GuardedTransport | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport or GuardedTransport(), timeout=10)


async def test_a_connection_is_used_again():
    async with peer_that() as peer, client() as http:
        for _ in range(20):
            assert (await http.get(peer.url)).text == "ok"
        assert peer.accepted == 1


async def test_a_connection_that_the_peer_has_closed_is_not_used_again():
    async with peer_that(answers=1) as peer, client() as http:
        for number in range(1, 4):
            assert (await http.post(peer.url)).text == "ok"
            await peer.until(lambda number=number: peer.ended == number)
        assert peer.accepted == 3


@pytest.mark.parametrize("pause", [0, 0.1])
async def test_a_response_that_arrives_before_its_request_is_not_the_answer(pause: float):
    async with peer_that() as peer, client() as http:
        await http.get(peer.url)
        peer.writers[0].write(ANSWER.replace(b"ok", b"no"))
        await asyncio.sleep(pause)  # 0: it is still in the socket
        assert (await http.get(peer.url)).text == "ok"
        assert peer.accepted == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("is_once", [False, True])
async def test_a_request_that_meets_a_closing_connection_is_sent_again_if_it_is_idempotent(
    method: str, is_once: bool
):
    # The race that a kept connection may lose: the peer closes it while the next request is sent.
    async with peer_that(answers=1, lingers=True) as peer, client() as http:
        await http.get(peer.url)
        sending = Sending(is_once=is_once)
        # A server that does not know the header acts twice: it permits nothing.
        request = http.build_request(
            method, peer.url, headers={"Idempotency-Key": "k"}, content=b"", extensions={SENDING: sending}
        )
        if method in IDEMPOTENT and not is_once:
            assert (await http.send(request)).status_code == 200
            assert peer.accepted == 2
        else:
            with pytest.raises(httpx.TransportError):
                await http.send(request)
            assert peer.accepted == 1
        assert sending.bytes_written > 0


async def test_a_request_of_which_nothing_was_written_is_sent_again_whatever_it_is():
    async with peer_that(answers=1, lingers=True) as peer, client() as http:
        await http.get(peer.url)
        writer = peer.writers[0]

        async def lose(event: str, _: object) -> None:
            # The connection has been taken from the idle ones, and is lost before the first write.
            if event == "http11.send_request_headers.started" and peer.accepted == 1:
                writer.transport.abort()
                await peer.until(lambda: peer.ended == 1)
                await asyncio.sleep(0.1)

        sending = Sending(is_once=True)
        extensions = {SENDING: sending, "trace": lose}
        response = await http.post(peer.url, json={"amount": 1}, extensions=extensions)
        assert response.text == "ok"
        assert peer.accepted == 2


async def test_a_request_is_written_exactly_as_it_was_given():
    written: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        written.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a%2Fb/%7E?"
        headers = [("Host", "here"), ("X-Tag", "1"), ("x-tag", "2"), ("X-Tag", "1")]
        async with GuardedTransport() as transport:
            response = await transport.handle_async_request(httpx.Request("DELETE", url, headers=headers))
            await response.aclose()
    head = b"DELETE /a%2Fb/%7E? HTTP/1.1\r\nHost: here\r\nX-Tag: 1\r\nx-tag: 2\r\nX-Tag: 1\r\n\r\n"
    assert written == [head]


async def test_a_connection_that_is_new_is_not_tried_twice():
    async with peer_that(answers=0) as peer, client() as http:
        with pytest.raises(httpx.TransportError):
            await http.get(peer.url)
        assert peer.accepted == 1


async def test_a_connection_made_under_another_policy_is_not_used(monkeypatch: pytest.MonkeyPatch):
    async with peer_that() as peer, client() as http:
        await http.get(peer.url)
        monkeypatch.setenv("APFLOW_NET_POLICY", "public")
        with pytest.raises(AddressRefusedError):
            await http.get(peer.url)
        monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
        await http.get(peer.url)
        assert peer.accepted == 2


async def test_no_more_are_in_use_at_once_than_was_said():
    async with peer_that() as peer, client(GuardedTransport(connections=3)) as http:
        await asyncio.gather(*(http.get(peer.url) for _ in range(30)))
        assert peer.accepted <= 3


async def test_idle_connections_are_few_and_closed_in_the_end():
    transport = GuardedTransport()
    async with peer_that() as peer:
        async with client(transport) as http:
            await asyncio.gather(*(http.get(peer.url) for _ in range(90)))
            assert peer.accepted == 90
            await peer.until(lambda: peer.accepted - peer.ended == 64)
        await peer.until(lambda: peer.ended == 90)


async def test_what_is_read_when_the_transport_is_closed_is_closed_after():
    transport = GuardedTransport()
    async with peer_that() as peer:
        response = await transport.handle_async_request(httpx.Request("GET", peer.url))
        await transport.aclose()
        await response.aread()
        await response.aclose()
        await peer.until(lambda: peer.ended == 1)


async def test_nothing_is_left_of_what_is_cancelled_while_tls_is_agreed_upon():
    before = open_files()
    async with peer_that() as peer, client() as http:
        trying = asyncio.ensure_future(http.get(peer.url.replace("http:", "https:")))
        await peer.until(lambda: peer.accepted == 1)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        await peer.until(lambda: peer.ended == 1)
    assert open_files() <= before


async def test_a_peer_that_reads_nothing_learns_at_once_that_nobody_sends_any_more():
    async with peer_that(reads=False) as peer, client() as http:
        sending = asyncio.ensure_future(http.put(peer.url, content=bytes(1 << 24)))
        await peer.until(lambda: peer.accepted == 1)
        await asyncio.wait([sending], timeout=0.1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await peer.until(lambda: peer.ended == 1)


async def test_the_time_limits_of_a_client_hold():
    async with peer_that(reads=False) as peer:
        timeout = httpx.Timeout(30, write=0.1, connect=0.5)
        async with httpx.AsyncClient(transport=GuardedTransport(), timeout=timeout) as http:
            with pytest.raises(httpx.WriteTimeout):
                await http.put(peer.url, content=bytes(1 << 24))
            with pytest.raises(httpx.ConnectTimeout):
                await http.get(peer.url.replace("http:", "https:"))
        # The second one sent too little to be held up: it ends without a reset.
        await peer.until(lambda: peer.accepted == 2)
        peer.ended = peer.accepted
