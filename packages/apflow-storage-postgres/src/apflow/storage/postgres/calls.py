"""Calls that one process makes for another, in PostgreSQL: see `CallExchange`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from time import monotonic
from typing import Any, Final

import asyncpg

from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.errors import StoreError
from apflow.core.model.resources import Needs, Offer, fitting
from apflow.core.payload.json_value import dumps, loads
from apflow.core.store.calls import (
    CallExchange,
    CallMessage,
    LiveWorker,
    OfferedCall,
    ReceivedMessage,
    TakenCall,
    WaitingCall,
)
from apflow.storage.postgres.call_statements import (
    CANDIDATES,
    COLLECT,
    FORGET,
    KEEP,
    LEAVE,
    LOST,
    OFFER,
    OFFERS_CHANNEL,
    POST,
    TAKE,
    TAKEN_BEFORE,
    WAITING,
    WITHDRAW,
    WORKERS,
)
from apflow.storage.postgres.driver import Connection
from apflow.storage.postgres.iothread import IoThread
from apflow.storage.postgres.server import FIRST_WAIT, Link, Server

logger = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS: Final = 30.0  # a connection that says nothing may be dead
CHECK_SECONDS: Final = 5.0  # for its answer
MAX_WAIT_SECONDS: Final = 5.0  # until a lost connection is opened again
LEAVE_SECONDS: Final = 2.0  # for the end of a party
RACES: Final = 10  # attempts to take calls that other workers take, too
RENEWALS: Final = 10  # of a party, after which it removes what others have left


class _Party:
    """A party of this process."""

    def __init__(self, name: str, offer: Offer | None, wake: Callable[[], object]) -> None:
        self.name, self.wake = name, wake
        self.offer = None if offer is None else dumps(offer.to_json()).decode()
        self.channel = f"apflow_party_{sha256(name.encode()).hexdigest()[:32]}"
        self.seen_at = float("-inf")  # by the monotonic clock, when the last sign of life was given
        self.is_lapsed = False  # there was none for too long; it stays so
        self.keeping: asyncio.Task[None] | None = None

    def heed(self, *_: object) -> None:
        """Take a notice: wake what the party is for."""
        try:
            self.wake()
        except Exception:  # the others must still be woken
            logger.exception("Party %s could not be woken.", self.name)

    @property
    def channels(self) -> list[str]:
        return [self.channel] if self.offer is None else [self.channel, OFFERS_CHANNEL]


class PostgresCalls(CallExchange):
    """The calls in one database. One connection works, and another one listens.

    Args:
        lease: how long a party is there after its last sign of life.
    """

    def __init__(self, server: Server, io: IoThread, lease: timedelta) -> None:
        self._server, self._io, self._lease = server, io, lease
        self.url = server.url
        self._link = Link(server)
        self._parties: dict[str, _Party] = {}
        self._listening: asyncio.Task[None] | None = None
        self._ears: Connection | None = None  # the connection that listens
        self._ears_lock = asyncio.Lock()
        self._is_unsure = False  # a call may have been taken, and the answer was lost

    async def join(self, party: str, offer: Offer | None, wake: Callable[[], object]) -> None:
        await self._io.run(self._join(_Party(party, offer, wake)))

    async def leave(self, party: str) -> None:
        await self._io.run(self._leave(party))

    def is_joined(self, party: str) -> bool:
        known = self._parties.get(party)
        if known is None or known.is_lapsed:
            return False
        known.is_lapsed = monotonic() - known.seen_at >= self._lease.total_seconds()
        return not known.is_lapsed

    async def workers(self) -> list[LiveWorker]:
        rows = await self._fetch(WORKERS)
        return [LiveWorker(name, Offer.from_json(loads(offer)), calls) for name, offer, calls in rows]

    async def offer(self, calls: Sequence[OfferedCall]) -> None:
        columns: list[list[Any]] = [
            [each.id for each in calls],
            [each.owner for each in calls],
            [each.task_id for each in calls],
            [each.executor_id for each in calls],
            [each.user_id or "" for each in calls],
            [each.priority for each in calls],
            [dumps(each.needs.amounts).decode() for each in calls],
            [dumps(each.needs.labels).decode() for each in calls],
            [each.is_importable for each in calls],
            [each.body for each in calls],
        ]
        await self._io.run(self._offer(columns))

    async def withdraw(self, call_ids: Sequence[str]) -> list[str]:
        return [row[0] for row in await self._fetch(WITHDRAW, list(call_ids))]

    async def take(
        self, worker: str, offer: Offer, free: Mapping[str, float], limit: int, known: Collection[str]
    ) -> list[TakenCall]:
        rows = await self._io.run(self._take(worker, offer, free, limit, known))
        taken = sorted(rows, key=lambda row: row[4])
        return [TakenCall(row[0], row[1], loads(row[2]), row[3]) for row in taken]

    async def post(self, messages: Sequence[CallMessage], ended: Sequence[str] = ()) -> None:
        receivers = [each.receiver for each in messages]
        ids, bodies = [each.call_id for each in messages], [each.body for each in messages]
        await self._fetch(POST, receivers, ids, bodies, list(ended))

    async def collect(self, party: str, seen: Sequence[int]) -> list[ReceivedMessage]:
        return [ReceivedMessage(*row) for row in await self._fetch(COLLECT, party, list(seen))]

    async def lost(self, party: str, call_ids: Sequence[str]) -> list[str]:
        return [row[0] for row in await self._fetch(LOST, party, list(call_ids))]

    async def waiting(self, task_id: str) -> WaitingCall | None:
        rows = await self._fetch(WAITING, task_id)
        if not rows:
            return None
        executor_id, amounts, labels, is_importable, worker = rows[0]
        return WaitingCall(executor_id, Needs(loads(amounts), loads(labels)), is_importable, worker)

    async def close(self) -> None:
        """Let go of the connections. To be called in the thread that holds them."""
        for party in list(self._parties):
            try:
                await self._leave(party)
            except StoreError as error:  # it is forgotten later
                logger.debug("Party %s stays for a while: %s", party, error)
        await self._link.close()

    # --- in the thread that holds the connections ----------------------------------------------------

    async def _join(self, party: _Party) -> None:
        await self._keep_once(party, self._server.patience)
        self._parties[party.name] = party
        party.keeping = asyncio.create_task(self._keep(party), name="apflow:calls:keep")
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="apflow:calls:listen")
        elif self._ears is not None:
            await self._hear(self._ears, party)

    async def _leave(self, name: str) -> None:
        party = self._parties.pop(name, None)
        if party is not None and party.keeping is not None:
            party.keeping.cancel()
        if not self._parties and self._listening is not None:
            self._listening.cancel()
            self._listening = None
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._work(LEAVE, name, patience=0.0)
        except TimeoutError:  # it is forgotten later
            logger.info("%s: party %s stays for a while, because the server does not answer", self.url, name)

    async def _keep_once(self, party: _Party, patience: float) -> None:
        began = monotonic()  # not later: others count from a moment after this one
        await self._work(KEEP, party.name, self._lease, party.channel, party.offer, patience=patience)
        party.seen_at = began

    async def _keep(self, party: _Party) -> None:
        """Give signs of life until this is cancelled."""
        pause, times = self._lease.total_seconds() / 3, 0
        while True:
            await asyncio.sleep(pause)
            if not self.is_joined(party.name):
                return
            times += 1
            try:
                async with asyncio.timeout(pause):
                    await self._keep_once(party, pause)
                    if times % RENEWALS == 1:
                        for statement in FORGET:
                            await self._work(statement, patience=0.0)
            except (StoreError, TimeoutError) as error:
                logger.warning("%s: party %s gave no sign of life: %s", self.url, party.name, error)

    async def _offer(self, columns: Sequence[list[Any]]) -> None:
        await self._work("SELECT 1")  # as long as it takes: a server that restarts is only waited for
        # Not repeated: a call may have been taken, made and removed meanwhile, and would be made twice.
        await self._work(OFFER, *columns, patience=0.0)

    async def _take(
        self, worker: str, offer: Offer, free: Mapping[str, float], limit: int, known: Collection[str]
    ) -> Sequence[Any]:
        rows: list[Any] = []
        if self._is_unsure:
            rows = await self._work(TAKEN_BEFORE, worker, list(known))
            self._is_unsure = False
            free = _without(free, [loads(row[2]) for row in rows])
        for _ in range(RACES):
            found = await self._work(
                CANDIDATES,
                list(offer.executors),
                offer.is_open,
                dumps(dict(offer.labels)).decode(),
                dumps(dict(free)).decode(),
                limit * 2,
            )
            chosen = fitting(((row[0], loads(row[1])) for row in found), free, limit - len(rows))
            if not chosen:
                break
            try:
                taken = await self._work(TAKE, worker, chosen, patience=0.0)
            except BaseException:
                self._is_unsure = True
                raise
            rows += taken
            if taken:
                break  # otherwise other workers have taken all of them
        return rows

    async def _listen(self) -> None:
        """Wake parties when there is something for them, until this is cancelled."""
        wait = FIRST_WAIT
        while True:
            try:
                connection = await self._server.connect()
                try:
                    await self._receive(connection)
                finally:
                    self._ears = None
                    connection.terminate()
                wait = FIRST_WAIT
            except Exception as error:  # noqa: BLE001  it is retried, and parties also poll
                logger.info("%s: notices of calls cannot be received for the moment: %s", self.url, error)
            await asyncio.sleep(wait)
            wait = min(MAX_WAIT_SECONDS, wait * 2)

    async def _receive(self, connection: Connection) -> None:
        """Receive notices until the connection is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        self._ears = connection
        for party in list(self._parties.values()):
            await self._hear(connection, party)
        while not lost.is_set():
            if not await wait_up_to(CHECK_INTERVAL_SECONDS, lost):
                async with self._ears_lock:
                    await connection.execute("SELECT 1", timeout=CHECK_SECONDS)

    async def _hear(self, connection: Connection, party: _Party) -> None:
        async with self._ears_lock:
            try:
                for channel in party.channels:
                    await connection.add_listener(channel, party.heed)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # parties also poll
                logger.info("%s: party %s hears nothing for the moment: %s", self.url, party.name, error)
        party.heed()  # for what came before

    async def _fetch(self, statement: str, *parameters: Any) -> list[asyncpg.Record]:
        return await self._io.run(self._work(statement, *parameters))

    async def _work(
        self, statement: str, *parameters: Any, patience: float | None = None
    ) -> list[asyncpg.Record]:
        """Do one statement, which may be repeated within `patience` seconds (None: those of the server)."""

        async def once() -> list[asyncpg.Record]:
            async with self._link.connection() as connection:
                return await connection.fetch(statement, *parameters)

        async with self._server.translating_errors():
            return await (once() if patience == 0.0 else self._server.patiently(once, patience))


def _without(free: Mapping[str, float], used: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: amount - sum(each.get(name, 0.0) for each in used) for name, amount in free.items()}
