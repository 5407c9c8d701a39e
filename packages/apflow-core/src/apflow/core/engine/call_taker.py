"""The worker's side of calls that other processes of the same store own; see `call_desk`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final

from apflow.core.concurrency.containment import shielded
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.call_desk import END, ENDED, OUTCOME, REFUSED, TAKEN
from apflow.core.engine.call_mailbox import CallMailbox, while_joined
from apflow.core.engine.call_server import CallServer
from apflow.core.errors import ApflowError, StoreError
from apflow.core.extensions.executor_call import ExecutorCall, Message
from apflow.core.model.resources import Offer
from apflow.core.payload.json_value import loads
from apflow.core.settings import Settings
from apflow.core.store.calls import CallExchange, TakenCall

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0  # between looks for calls and messages, if no notice arrives
CLOSE_SECONDS: Final = 5.0  # for the last messages of a worker that ends


class CallTaker:
    """Takes calls that it can make, and makes them, in the event loop in which it runs.

    Args:
        name: begins the names by which others know this worker.
    """

    def __init__(self, exchange: CallExchange, name: str, offer: Offer, settings: Settings) -> None:
        self.offer = offer
        self._exchange, self._name = exchange, name
        self._server = CallServer(settings)
        self._party = ""  # set while it is a party; a name is never used again
        self._taken: dict[str, TakenCall] = {}  # until their last message is sent
        self._mailbox = CallMailbox(exchange, "", self._taken.__contains__)
        self._serving: dict[str, asyncio.Task[Message]] = {}
        self._free = dict(offer.amounts)
        self._is_draining = False
        self._has_room = True  # a look for calls is due
        self._wake = asyncio.Event()

    @property
    def running(self) -> int:
        """How many calls it makes now."""
        return len(self._serving)

    async def run(self) -> None:
        """Take and make calls until this is cancelled, which ends the code of those that run."""
        loop = asyncio.get_running_loop()
        for number in count():
            self._party = f"{self._name}/{number}"
            self._mailbox = CallMailbox(self._exchange, self._party, self._taken.__contains__, self._forget)
            try:
                await self._exchange.join(self._party, self.offer, lambda: call_in_loop(loop, self._heed))
                await while_joined(self._exchange, self._party, self._work())
            finally:
                with shielded():
                    self._end_all(list(self._serving))
                    if self._serving:
                        await asyncio.wait(list(self._serving.values()))
                    is_joined = self._exchange.is_joined(self._party)
                    await self._mailbox.close(CLOSE_SECONDS if is_joined else 0.0)
                    self._taken.clear()
                    with suppress(StoreError):
                        await self._exchange.leave(self._party)
            logger.error("Worker %s gave no sign of life for too long: its calls have ended.", self._name)

    async def _work(self) -> None:
        """Take and make calls as one party, until this is cancelled."""
        loop = asyncio.get_running_loop()
        checked_at = loop.time()
        while True:
            self._wake.clear()
            is_check = loop.time() - checked_at >= POLL_SECONDS
            if is_check:
                checked_at = loop.time()
            try:
                await self._look(is_check=is_check)
            except StoreError as error:
                logger.info("Calls of other processes cannot be taken for the moment: %s", error)
            if not await wait_up_to(POLL_SECONDS, self._wake):
                self._has_room = True

    async def drain(self, seconds: float) -> None:
        """Take no more calls, and wait so long until those that run have ended."""
        self._is_draining = True
        if self._serving:
            await asyncio.wait(list(self._serving.values()), timeout=seconds)

    def _heed(self) -> None:
        self._has_room = True
        self._wake.set()

    async def _look(self, *, is_check: bool) -> None:
        for call_id, message in await self._mailbox.receive():
            self._receive(call_id, message)
        if is_check and self._serving:
            await self._look_for_lost()
        while self._has_room and not self._is_draining:
            limit = self.offer.max_calls - len(self._serving)
            self._has_room = False
            if limit <= 0:
                return
            taken = await self._exchange.take(self._party, self.offer, self._free, limit, self._taken)
            for each in taken:
                self._start(each)
            self._has_room = bool(taken)

    async def _look_for_lost(self) -> None:
        """End calls whose owner is not there any more, or has removed them."""
        lost = await self._exchange.lost(self._party, list(self._serving))
        if lost:
            logger.warning("%d calls have no owner any more: their code is ended.", len(lost))
            self._end_all(lost)

    def _receive(self, call_id: str, message: Message) -> None:
        """Take a message of an owner."""
        if message["kind"] != END:
            self._server.receive(call_id, message)
        elif call_id in self._serving:
            self._serving[call_id].cancel()

    def _start(self, call: TakenCall) -> None:
        self._taken[call.id] = call
        for name, amount in call.amounts.items():
            self._free[name] = self._free.get(name, 0.0) - amount
        self._mailbox.send(call.owner, call.id, {"kind": TAKEN, "worker": self._party})
        serving = self._serving[call.id] = asyncio.create_task(
            self._serve(call), name=f"apflow:call:{call.id}"
        )
        serving.add_done_callback(partial(self._end, call))

    async def _serve(self, call: TakenCall) -> Message:
        """Make a call, and return its last message. Raises only `CancelledError`."""
        try:
            send = partial(self._mailbox.send, call.owner, call.id)
            outcome = await self._server.serve(ExecutorCall.from_json(loads(call.body)), send)
        except ApflowError as error:
            return {"kind": REFUSED, "message": f"Worker {self._party} refused the call: {error}"}
        except Exception:
            logger.exception("Call %s could not be made.", call.id)
            return {"kind": ENDED}
        return {"kind": OUTCOME, "outcome": outcome}

    def _end(self, call: TakenCall, serving: asyncio.Task[Message]) -> None:
        """Send the last message of a call, and free what it used."""
        last: Message = {"kind": ENDED} if serving.cancelled() else serving.result()
        del self._serving[call.id]
        for name, amount in call.amounts.items():
            self._free[name] += amount
        self._mailbox.send(call.owner, call.id, last, is_last=True)
        self._heed()

    def _end_all(self, call_ids: Collection[str]) -> None:
        for each in call_ids:
            if each in self._serving:
                self._serving[each].cancel()

    def _forget(self, ended: Collection[str]) -> None:
        """Forget calls whose last message is sent."""
        for each in ended:
            self._taken.pop(each, None)
        self._mailbox.forget(ended)
