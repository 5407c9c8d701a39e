"""The messages that one side of calls sends to the other and receives from it, by a `CallExchange`.

Each message of a call has a number. So a message that arrives twice, because an answer of the store was lost,
is taken once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

from apflow.core.concurrency.exit_fence import create_unfenced
from apflow.core.errors import StoreError
from apflow.core.extensions.executor_call import Message
from apflow.core.payload.json_value import dumps, loads
from apflow.core.store.calls import CallExchange, CallMessage

logger = logging.getLogger(__name__)

MAX_POSTED: Final = 500  # messages that are sent at once
PAUSE_SECONDS: Final = 0.5  # before messages are sent again
LAPSE_SECONDS: Final = 0.25  # between looks whether a party is still there


async def while_joined(exchange: CallExchange, party: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, and cancel it when others count the party as gone, whatever it waits for."""
    working = asyncio.ensure_future(work)
    try:
        while not working.done() and exchange.is_joined(party):
            await asyncio.wait([working], timeout=LAPSE_SECONDS)
        if working.done():
            working.result()
    finally:
        working.cancel()
        await asyncio.wait([working])


class CallMailbox:
    """The messages of one party, in one event loop.

    Args:
        knows: returns whether a call is known on this side; messages of others are passed on as they come.
        posted: called with the ids of calls whose last message is sent.
    """

    def __init__(
        self,
        exchange: CallExchange,
        party: str,
        knows: Callable[[str], bool],
        posted: Callable[[Collection[str]], object] | None = None,
    ) -> None:
        self._exchange, self._party, self._knows = exchange, party, knows
        self._posted = posted
        self._waiting: list[tuple[CallMessage, bool]] = []  # and whether it is the last one of its call
        self._posting: asyncio.Task[None] | None = None
        self._sent: dict[str, int] = {}  # call id -> the number of the last message
        self._received: dict[str, int] = {}
        self._seen: list[int] = []  # messages that the store may remove

    def send(self, receiver: str, call_id: str, message: Message, *, is_last: bool = False) -> None:
        """Send a message soon.

        Args:
            is_last: the call has ended, and is removed with it.
        """
        number = self._sent[call_id] = self._sent.get(call_id, 0) + 1
        body = dumps([number, dict(message)]).decode()
        self._waiting.append((CallMessage(receiver, call_id, body), is_last))
        if self._posting is None or self._posting.done():
            self._posting = create_unfenced(
                lambda: asyncio.create_task(self._post(), name="apflow:calls:post")
            )

    async def receive(self) -> list[tuple[str, Message]]:
        """Return the messages that have arrived, each with the id of its call.

        Raises:
            StoreError: the store cannot be reached.
        """
        found: list[tuple[str, Message]] = []
        while True:
            received = await self._exchange.collect(self._party, self._seen)
            self._seen = [each.number for each in received]
            if not received:
                return found
            for each in received:
                number, message = loads(each.body)
                if not self._knows(each.call_id):
                    found.append((each.call_id, message))
                elif number > self._received.get(each.call_id, 0):
                    self._received[each.call_id] = number
                    found.append((each.call_id, message))

    def forget(self, call_ids: Iterable[str]) -> None:
        """Forget the numbers of calls that have ended on this side."""
        for each in call_ids:
            self._sent.pop(each, None)
            self._received.pop(each, None)

    async def close(self, seconds: float) -> None:
        """Wait so long until all messages are sent, and drop the others."""
        if self._posting is not None and not self._posting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._posting], timeout=seconds)
            self._posting.cancel()

    async def _post(self) -> None:
        while self._waiting:
            sending, self._waiting = self._waiting[:MAX_POSTED], self._waiting[MAX_POSTED:]
            ended = [message.call_id for message, is_last in sending if is_last]
            try:
                await self._exchange.post([message for message, _ in sending], ended)
            except StoreError as error:
                logger.info("Messages of calls cannot be sent for the moment: %s", error)
                if not self._exchange.is_joined(self._party):
                    self._waiting.clear()
                    return  # the other sides count the calls as lost
                self._waiting[:0] = sending
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._posted is not None and ended:
                self._posted(ended)
