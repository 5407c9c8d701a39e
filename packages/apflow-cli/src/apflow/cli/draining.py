"""Ending a process that runs trees: the first signal lets its work end, the second ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import click

from apflow.core.settings import get_settings

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LAST_WAIT = 5.0  # seconds beyond the time that code has to end: what ignores its cancellation is left behind


@contextmanager
def drain_on_signal(drain: Callable[[], object]) -> Generator[None]:
    """Call `drain` at the first SIGTERM or SIGINT while the context lasts."""
    loop = asyncio.get_running_loop()

    def begin(name: str) -> None:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        settings = get_settings()
        wait = settings.shutdown_timeout
        click.echo(f"{name}: taking no more work; what runs has {wait:g} s to end.", err=True)
        timer = threading.Timer(wait + settings.cancel_grace + LAST_WAIT, os._exit, (0,))
        timer.daemon = True
        timer.start()
        drain()

    for each in SIGNALS:
        loop.add_signal_handler(each, begin, each.name)
    try:
        yield
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
