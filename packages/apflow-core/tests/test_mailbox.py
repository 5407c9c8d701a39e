"""The mailbox of a run: a run that is always woken does not keep other code from running."""

from __future__ import annotations

import asyncio

from apflow.core.engine.mailbox import Mailbox


async def test_other_code_runs_while_a_mailbox_is_woken_in_each_turn():
    mailbox, ran = Mailbox(), asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    mailbox.wake()
    await mailbox.wait()
    assert ran.is_set()
