"""What a store of several processes offers so that one of them makes a call of an executor for another.

The process that runs a tree owns its calls. It offers a call; a worker takes it, and makes it; meanwhile both
send messages to each other. Both are parties: as long as a party is there, the store keeps that known.

All of this lives only as long as the call, so a store may lose it when its server fails. The two sides notice
(`lost`), and the owner repeats the call where its effect allows that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from apflow.core.model.resources import Needs, Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedCall:
    """A call that waits for a worker.

    Attributes:
        owner: the party that runs the tree.
        is_importable: whether a worker that does not have the executor may import it from its module.
        body: the call itself, as JSON.
    """

    id: str
    owner: str
    task_id: str
    executor_id: str
    user_id: str | None
    priority: int
    needs: Needs
    is_importable: bool
    body: str


class TakenCall(NamedTuple):
    """A call that a worker has taken."""

    id: str
    owner: str
    amounts: Mapping[str, float]
    body: str


class CallMessage(NamedTuple):
    """A message of one side of a call to the other; `body` is JSON."""

    receiver: str
    call_id: str
    body: str


class ReceivedMessage(NamedTuple):
    """A message as it arrives; `number` identifies it."""

    number: int
    call_id: str
    body: str


class WaitingCall(NamedTuple):
    """What is known of an offered call."""

    executor_id: str
    needs: Needs
    is_importable: bool
    worker: str | None  # that has taken it


class LiveWorker(NamedTuple):
    """A worker that is there."""

    party: str
    offer: Offer
    calls: int  # that it makes now


class CallExchange(ABC):
    """Passes calls from the processes that own them to workers. Bound to no event loop; thread-safe.

    Each operation raises `StoreError` if the store is closed or cannot be reached.
    """

    @abstractmethod
    async def join(self, party: str, offer: Offer | None, wake: Callable[[], object]) -> None:
        """Become a party, and stay one until `leave`, whatever the caller's event loop is busy with.

        Args:
            offer: what a worker offers; None: an owner of calls.
            wake: called from any thread when there may be messages for the party or, for a worker, calls.
                Such a call may be missing: a party must also look from time to time.
        """

    @abstractmethod
    async def leave(self, party: str) -> None:
        """Stop being a party. Its messages are removed, and the other sides of its calls lose them."""

    @abstractmethod
    def is_joined(self, party: str) -> bool:
        """Return whether others know that the party is there. If not, they count its calls as lost."""

    @abstractmethod
    async def workers(self) -> list[LiveWorker]:
        """Return the workers that are there, in the order of their names."""

    @abstractmethod
    async def offer(self, calls: Sequence[OfferedCall]) -> None:
        """Offer calls to workers. After an error, they may be offered nevertheless."""

    @abstractmethod
    async def withdraw(self, call_ids: Sequence[str]) -> list[str]:
        """Remove calls that no worker has taken, and return them."""

    @abstractmethod
    async def take(
        self, worker: str, offer: Offer, free: Mapping[str, float], limit: int, known: Collection[str]
    ) -> list[TakenCall]:
        """Take calls that a worker can make now: urgent ones first, then by turns between users, then by age.

        Args:
            free: the amounts that are not in use.
            limit: how many calls at most.
            known: the calls that the worker has taken and not ended. Any others that are its own are
                returned, too: the answer that named them was lost.
        """

    @abstractmethod
    async def post(self, messages: Sequence[CallMessage], ended: Sequence[str] = ()) -> None:
        """Send messages, in order, and remove calls that have ended, all or nothing. May be repeated."""

    @abstractmethod
    async def collect(self, party: str, seen: Sequence[int]) -> list[ReceivedMessage]:
        """Return the messages for a party, in the order in which each sender sent them.

        Args:
            seen: the numbers of messages that were received before; they are removed.
        """

    @abstractmethod
    async def lost(self, party: str, call_ids: Sequence[str]) -> list[str]:
        """Return those of the calls that do not exist any more, or whose other side is not there any more.

        The latter are removed. A call that has ended is among the former: its outcome is among the messages.
        """

    @abstractmethod
    async def waiting(self, task_id: str) -> WaitingCall | None:
        """Return the call of a task that is offered or taken; None if there is none."""
