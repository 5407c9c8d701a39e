"""The server as a process: started, asked to stop, ended.

At the first SIGTERM, SIGHUP or SIGINT the server takes no more trees and still answers, until what runs has
ended or was given up. Then streams end, and the process exits with 0. A second SIGTERM or SIGINT ends the
process at once; nothing is lost by that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from apflow.core.capture.clean_output import clean_output
from apflow.core.concurrency import exit_fence
from apflow.core.engine.gc_tuning import tune_process
from apflow.core.process import identity
from apflow.core.settings import Settings
from apflow.server.http.connection import HttpConnection, WebSocketConnection
from apflow.server.http.listening import proxies_of
from apflow.server.streaming.websocket_messages import MAX_SIZE

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
HANGUP = signal.Signals["SIGHUP"] if hasattr(signal, "SIGHUP") else None  # a terminal has closed
LAST_WAIT = 5.0  # seconds beyond the time that code has to end: what ignores its cancellation is left behind
ANSWERS = 5.0  # seconds that answers have to end when nothing runs any more
KEEP_ALIVE = 30  # seconds that a connection may be idle
MAX_HEAD_BYTES = 64 << 10  # bytes of the headers of a request


class DrainingServer(uvicorn.Server):
    """Ends when the drain of its application is over, which a signal begins."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, before_end: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(config)
        self._app, self._before_end = app, before_end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._terminals = identity.terminals()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            for each in sockets or []:
                logger.info("Serving at %s.", _url_of(each))

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end, also where a callback of an executor calls `sys.exit`."""
        exit_fence.run(self.serve(sockets=sockets), loop_factory=self.config.get_loop_factory())

    async def on_tick(self, counter: int) -> bool:
        if self._app.state.drain.is_over:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle SIGHUP as uvicorn handles SIGTERM. `nohup` ignores SIGHUP, which stays so."""
        with super().capture_signals():
            is_handled = threading.current_thread() is threading.main_thread() and heeds_hangup()
            if not is_handled or HANGUP is None:
                yield
                return
            former = signal.signal(HANGUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(HANGUP, former)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signals give it
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if HANGUP is not None:
            signal.signal(HANGUP, signal.SIG_IGN)  # a terminal that closes may send it several times
            if sig == HANGUP:
                identity.leave_terminals(self._terminals)
        settings: Settings = self._app.state.settings
        wait = settings.shutdown_timeout
        logger.info("%s: taking no more work; what runs has %g s to end.", signal.Signals(sig).name, wait)
        _exit_after(wait + settings.cancel_grace + ANSWERS + LAST_WAIT)
        if self.started and self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._app.state.drain.begin())
        else:
            self.should_exit = True


def serve(
    app: FastAPI, sockets: list[socket.socket], *, before_end: Callable[[], object] = lambda: None
) -> None:
    """Serve an application at bound sockets in this process, until a signal comes.

    Args:
        before_end: called when nothing runs any more, while the sockets still answer.
    """
    tune_process()
    with clean_output():
        DrainingServer(configuration(app, app.state.settings), app, before_end).run(sockets)


def heeds_hangup() -> bool:
    """Whether SIGHUP exists and is not ignored."""
    return HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN


def configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        lifespan="on",
        forwarded_allow_ips=proxies_of(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        http=HttpConnection,
        ws=WebSocketConnection,
        ws_max_size=4 * MAX_SIZE,  # UTF-8 has at most so many bytes for its characters
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(ANSWERS),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )


def _exit_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _url_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
