"""Ctrl-C ends a command, whatever runs at that moment."""

import asyncio
import os
import signal

import pytest

from apflow.cli.session.signals import run_until_interrupted
from apflow.core.concurrency.exit_fence import create_unfenced, enter_code


def test_ctrl_c_during_users_code_cancels_the_command():
    ends: list[str] = []

    async def code() -> None:
        enter_code()
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the handler runs between two instructions
            pass
        await asyncio.sleep(60)

    async def main() -> None:
        running = create_unfenced(lambda: asyncio.create_task(code(), name="apflow:code"))
        try:
            await asyncio.wait({running}, timeout=30)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        finally:
            running.cancel()

    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted(main())
    assert ends == ["cancelled"]
