"""A proxy drops, delays and withholds the selected data, and forwards everything else unchanged."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from apflow.testing.proxy import Proxy, a_proxy, at_most

TIMEOUT_SECONDS = 30.0  # seconds for anything to happen


class Echo(ThreadingTCPServer):
    """A server that answers each piece with the same, and notes when a client is gone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.heard: list[bytes] = []
        self.is_left = threading.Event()


class Answering(BaseRequestHandler):
    server: Echo
    request: socket.socket

    def handle(self) -> None:
        try:
            while piece := self.request.recv(1000):
                self.server.heard.append(piece)
                self.request.sendall(piece)
        except OSError:
            pass
        self.server.is_left.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with a_proxy(("127.0.0.1", echo.server_address[1])) as proxy:
        yield proxy


Ask = Callable[[bytes], bytes]  # says something and returns the answer, b"" where the connection is lost


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], Ask]]:
    with ExitStack() as stack:

        def connect() -> Ask:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_SECONDS))

            def ask(piece: bytes) -> bytes:
                try:
                    client.sendall(piece)
                    return client.recv(1000)
                except ConnectionError:
                    return b""

            assert ask(b"hello") == b"hello"
            return ask

        yield connect


def test_what_is_cut_before_does_not_reach_the_server(echo: Echo, proxy: Proxy, connect: Callable[[], Ask]):
    ask = connect()
    proxy.cut_before = at_most(1, lambda piece: b"lose" in piece)
    assert ask(b"lose this") == b""
    assert connect()(b"lose that") == b"lose that"
    assert echo.heard == [b"hello", b"hello", b"lose that"]
    assert (proxy.count, proxy.lost_pieces, proxy.lost_answers) == (2, 1, 0)


def test_what_is_cut_after_reaches_the_server_and_its_answer_not_the_client(
    echo: Echo, proxy: Proxy, connect: Callable[[], Ask]
):
    ask = connect()
    proxy.cut_after = at_most(1, lambda _: True)
    assert ask(b"lose the answer") == b""
    assert echo.is_left.wait(TIMEOUT_SECONDS)
    assert echo.heard == [b"hello", b"lose the answer"]
    assert (proxy.lost_pieces, proxy.lost_answers) == (0, 1)


def test_a_server_hears_of_a_stranded_client_once_everything_is_passed_on(
    echo: Echo, proxy: Proxy, connect: Callable[[], Ask]
):
    ask = connect()
    proxy.strand()
    assert ask(b"anybody there?") == b""
    assert connect()(b"another one") == b"another one"
    assert not echo.is_left.is_set()
    proxy.pass_on()
    assert echo.is_left.wait(TIMEOUT_SECONDS)


def test_what_is_stalled_arrives_later(echo: Echo, proxy: Proxy, connect: Callable[[], Ask]):
    ask = connect()
    answers: list[bytes] = []
    proxy.stall()
    asking = threading.Thread(target=lambda: answers.append(ask(b"one")))
    asking.start()
    asking.join(0.1)
    assert (answers, echo.heard) == ([], [b"hello"])
    proxy.pass_on()
    asking.join(TIMEOUT_SECONDS)
    assert answers == [b"one"]


def test_what_is_delayed_is_so_in_both_directions(proxy: Proxy, connect: Callable[[], Ask]):
    ask = connect()
    proxy.delay(0.1)
    began = time.monotonic()
    assert ask(b"two") == b"two"
    assert time.monotonic() - began >= 0.2


def test_a_look_may_act_on_its_proxy(proxy: Proxy, connect: Callable[[], Ask]):
    ask = connect()

    def cut(_piece: bytes) -> bool:
        proxy.lose_all()
        return False

    proxy.cut_before = cut
    assert ask(b"three") == b""


def test_a_client_that_connects_while_the_proxy_stops_leaves_no_open_socket(echo: Echo):
    unclosed: list[object] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        patch.setattr(sys, "unraisablehook", lambda what: unclosed.append(what.exc_value))
        gc.collect()
        unclosed.clear()  # of earlier tests
        for _ in range(300):
            proxy = Proxy(("127.0.0.1", echo.server_address[1]))
            proxy.start()
            with socket.socket() as client:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", proxy.port))
                proxy.stop()
        gc.collect()
    assert unclosed == []
