"""The owner's side of calls that workers of the same store make; see `call_taker` for the other side."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.concurrency.loop_local import LoopRegistry
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.engine.call_mailbox import CallMailbox, while_joined
from apflow.core.errors import CallLostError, RunnerUnavailableError, StoreError
from apflow.core.extensions.executor_call import ExecutorCall, Message, Receive
from apflow.core.model.resources import Needs
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.core.settings import Settings, get_settings
from apflow.core.store.base import TaskStore
from apflow.core.store.calls import CallExchange, OfferedCall

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0  # between looks for messages and lost calls, if no notice arrives
IDLE_SECONDS: Final = 5.0  # without calls, after which a desk leaves the exchange
END_SECONDS: Final = 10.0  # beyond the grace periods, for the end of a call that is cancelled

# What a worker sends beside the messages of `executor_call`: `kind` of a message.
TAKEN: Final = "taken"  # the call has been taken by `worker`
OUTCOME: Final = "outcome"  # the last message: the `outcome` of the call
ENDED: Final = "ended"  # the last message of a call that was ended from outside
REFUSED: Final = "refused"  # the last message of a call that the worker cannot make: why, as `message`
# What the owner sends.
END: Final = "end"  # end the code of the call


@dataclass(slots=True, eq=False)
class _Placed:
    """A call that is offered, or made by a worker."""

    task_id: str
    owner: str  # the party that has offered it
    receive: Receive
    outcome: asyncio.Future[Mapping[str, Json]]
    worker: str | None = None  # that has taken it
    is_offered: asyncio.Event = field(default_factory=asyncio.Event)
    is_taken: asyncio.Event = field(default_factory=asyncio.Event)  # or lost, or ended


class CallDesk:
    """Offers the calls of one event loop to the workers of a store. A `Runner`.

    It is a party as long as it has calls.
    """

    def __init__(self, exchange: CallExchange, settings: Settings) -> None:
        self._exchange, self._settings = exchange, settings
        self._loop = asyncio.get_running_loop()
        self._calls: dict[str, _Placed] = {}
        self._party = ""  # set while it is a party; a name is never used again
        self._mailbox = CallMailbox(exchange, "", self._calls.__contains__)
        self._unoffered: list[tuple[OfferedCall, _Placed]] = []
        self._offering: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._joining = asyncio.Lock()
        self._wake = asyncio.Event()

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        """See `Runner.run`. The call waits until a worker that can make it has room."""
        try:
            await self._join()
        except StoreError as error:
            raise RunnerUnavailableError(f"The database cannot be reached: {error}") from error
        placed = self._calls[call.id] = _Placed(
            str(call.task["id"]), self._party, receive, self._loop.create_future()
        )
        placed.outcome.add_done_callback(lambda _: placed.is_taken.set())
        self._unoffered.append((self._offered(call), placed))
        if self._offering is None or self._offering.done():
            self._offering = create_unfenced(
                lambda: asyncio.create_task(self._offer(), name="apflow:calls:offer")
            )
        try:
            return await asyncio.shield(placed.outcome)
        except asyncio.CancelledError:
            await self._end(call.id, placed)
            raise
        finally:
            del self._calls[call.id]
            self._mailbox.forget([call.id])
            if placed.outcome.done() and not placed.outcome.cancelled():
                placed.outcome.exception()  # retrieved: it may no longer matter

    async def send(self, call_id: str, message: Message) -> bool:
        """See `Runner.send`."""
        placed = self._calls.get(call_id)
        if placed is None or placed.outcome.done():
            return False
        if placed.worker is None:  # a worker may have taken it, and its message is on its way
            try:
                found = await self._exchange.waiting(placed.task_id)
            except StoreError as error:
                raise RunnerUnavailableError(f"The database cannot be reached: {error}") from error
            if found is None or found.worker is None:
                return False
            await placed.is_taken.wait()
        if placed.worker is None or placed.outcome.done():
            return False
        self._mailbox.send(placed.worker, call_id, message)
        return True

    async def close(self) -> None:
        """See `Runner.close`. Workers end the calls that run."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])

    def _offered(self, call: ExecutorCall) -> OfferedCall:
        return OfferedCall(
            id=call.id,
            owner=self._party,
            task_id=str(call.task["id"]),
            executor_id=call.executor_id,
            user_id=call.task["user_id"],
            priority=int(call.task["priority"]),
            needs=Needs.of(call.resources),
            is_importable=call.import_path is not None,
            body=dumps(call.to_json()).decode(),
        )

    async def _join(self) -> None:
        """Be a party while there are calls."""
        async with self._joining:
            if self._party:
                return
            party = f"owner:{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:16]}"
            await self._exchange.join(party, None, lambda: call_in_loop(self._loop, self._wake.set))
            self._party = party
            mailbox = self._mailbox = CallMailbox(self._exchange, party, self._calls.__contains__)
            self._tending = create_unfenced(
                lambda: asyncio.create_task(self._tend(party, mailbox), name="apflow:calls:tend")
            )

    async def _offer(self) -> None:
        """Offer the calls that wait for it, together."""
        while self._unoffered:
            batch, self._unoffered = self._unoffered, []
            wanted = [(call, placed) for call, placed in batch if not placed.outcome.done()]
            try:
                if wanted:
                    await self._exchange.offer([call for call, _ in wanted])
            except StoreError as error:  # they may be offered nevertheless
                logger.info("%d calls could not be offered: %s", len(wanted), error)
                await self._offer_again(wanted)
            for each in batch:
                if each not in self._unoffered:
                    each[1].is_offered.set()

    async def _offer_again(self, calls: Sequence[tuple[OfferedCall, _Placed]]) -> None:
        """Offer calls again that no worker can have taken; lose the others."""
        try:
            unmade = set(await self._exchange.withdraw([call.id for call, _ in calls]))
        except StoreError:
            unmade = set[str]()
        self._unoffered += [each for each in calls if each[0].id in unmade]
        self._lose([call.id for call, _ in calls if call.id not in unmade])

    async def _tend(self, party: str, mailbox: CallMailbox) -> None:
        """Receive messages, and look for lost calls, until there has been no call for a while."""
        try:
            await while_joined(self._exchange, party, self._receive(party, mailbox))
        finally:
            if self._party == party:
                self._party = ""  # the next call joins again, by another name
            # Others count them as lost. If the party has left because there were none, there are none.
            self._lose([each for each, placed in self._calls.items() if placed.owner == party])
            await mailbox.close(0.0)
            with suppress(StoreError):
                await self._exchange.leave(party)

    async def _receive(self, party: str, mailbox: CallMailbox) -> None:
        idle_since = checked_at = self._loop.time()
        while self._calls or self._loop.time() - idle_since < IDLE_SECONDS:
            self._wake.clear()
            now = self._loop.time()
            if self._calls:
                idle_since = now
            is_check = now - checked_at >= POLL_SECONDS
            if is_check:
                checked_at = now
            try:
                await self._look(party, mailbox, is_check=is_check)
            except StoreError as error:
                logger.info("Messages of calls cannot be received for the moment: %s", error)
            await wait_up_to(POLL_SECONDS, self._wake)
        self._party = ""  # now, not later: no further call joins this party

    async def _look(self, party: str, mailbox: CallMailbox, *, is_check: bool) -> None:
        """Take messages, and end calls that are lost: by their worker, or by the store."""
        for call_id, message in await mailbox.receive():
            self._take(call_id, message)
        offered = [each for each, placed in self._calls.items() if placed.is_offered.is_set()]
        lost = await self._exchange.lost(party, offered) if is_check and offered else []
        if lost:
            for call_id, message in await mailbox.receive():  # the last ones may be there
                self._take(call_id, message)
            self._lose(lost)

    def _lose(self, call_ids: Collection[str]) -> None:
        for each in call_ids:
            placed = self._calls.get(each)
            if placed is not None and not placed.outcome.done():
                where = "the workers" if placed.worker is None else f"worker {placed.worker}"
                placed.outcome.set_exception(CallLostError(where, "it is not there any more."))

    def _take(self, call_id: str, message: Message) -> None:
        """Take a message of a worker."""
        kind, placed = message["kind"], self._calls.get(call_id)
        if placed is None or placed.outcome.done():
            if kind == TAKEN:  # by a worker that cannot know that the call is not wanted any more
                self._mailbox.send(message["worker"], call_id, {"kind": END})
            return
        if kind == TAKEN:
            placed.worker = message["worker"]
            placed.is_taken.set()
        elif kind == OUTCOME:
            placed.outcome.set_result(cast("Mapping[str, Json]", message["outcome"]))
        elif kind == ENDED:
            where = f"worker {placed.worker}"
            placed.outcome.set_exception(CallLostError(where, "it was ended there."))
        elif kind == REFUSED:
            placed.outcome.set_exception(RunnerUnavailableError(message["message"]))
        else:
            placed.receive(message)

    async def _end(self, call_id: str, placed: _Placed) -> None:
        """End a call, and wait for its end for a limited time."""
        seconds = self._settings.cancel_grace + self._settings.cancel_wait + END_SECONDS
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(seconds):
                await placed.is_offered.wait()
                if placed.outcome.done() or (
                    placed.worker is None and await self._exchange.withdraw([call_id])
                ):
                    return
                await placed.is_taken.wait()
                if placed.worker is not None and not placed.outcome.done():
                    self._mailbox.send(placed.worker, call_id, {"kind": END})
                await asyncio.wait([placed.outcome])


def _desk(store: TaskStore) -> CallDesk:
    assert store.call_exchange is not None
    return CallDesk(store.call_exchange, get_settings())


_desks: LoopRegistry[TaskStore, CallDesk] = LoopRegistry(_desk)


def desk_of(store: TaskStore) -> CallDesk:
    """Return what offers the calls of the running event loop to the workers of a store."""
    return _desks.of(store)
