"""Notifications between processes: that there is something new to read, without the content.

Only live events, which are not stored, are sent in full. A lost notice only delays the reader, because
nothing depends on its arrival. Notices are sent after the commit and on a separate connection, because
PostgreSQL lets transactions that notify commit one after the other only.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable

import asyncpg

from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.model.event import TaskEvent
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.payload.json_value import dumps, loads
from apflow.core.store.base import Notice, NoticeKind
from apflow.storage.postgres.server import FIRST_WAIT, Link, Server
from apflow.storage.sql.ledger import Ledger, Writes
from apflow.storage.sql.pages import pages, read_page

logger = logging.getLogger(__name__)

CHANNEL = "apflow"
MAX_BYTES = 7999  # of one notice: PostgreSQL takes less than 8000
MAX_WAITING = 10_000  # notices; what comes then is dropped
PAUSE = 0.02  # seconds between two sends: what comes meanwhile goes together, unless it is urgent
ASKING = frozenset({"run_requested_at", "run_owner", "lease_until"})  # what makes a run free to be taken
URGENT = frozenset({NoticeKind.REQUESTED, NoticeKind.CANCEL})
MAX_WAIT_SECONDS = 5.0  # seconds until a lost connection is opened again
CHECK_INTERVAL_SECONDS = 30.0  # seconds: a connection that says nothing may be dead
SEND_TIMEOUT = 5.0  # seconds

_SEND = (
    "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) "
    "SELECT pg_notify($1, payload) FROM quick, unnest($2::TEXT[]) AS payload"
)

OnNotice = Callable[[Notice], object]


class Notices:
    """Sends to other processes what was done here, and hears what they did. Belongs to one event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._link = Link(server)
        self._sender = uuid.uuid4().hex[:16]  # by which this process knows its own
        self._waiting: dict[str, None] = {}  # payloads, each once
        self._sending: asyncio.Task[None] | None = None
        self._is_urgent = asyncio.Event()

    def send(self, notices: Iterable[Notice]) -> None:
        """Send notices, without waiting for it."""
        for notice in notices:
            payload = write_notice(self._sender, notice)
            if len(payload.encode()) <= MAX_BYTES and len(self._waiting) < MAX_WAITING:
                self._waiting[payload] = None
                if notice.kind in URGENT:
                    self._is_urgent.set()
        if self._waiting and (self._sending is None or self._sending.done()):
            loop = asyncio.get_running_loop()
            self._sending = loop.create_task(self._send(), name="apflow:notices")

    async def listen(self, on_notice: OnNotice) -> None:
        """Call `on_notice` with each notice of another process, indefinitely."""
        wait = FIRST_WAIT
        while True:
            try:
                connection = await self._server.connect()
                try:
                    wait = FIRST_WAIT
                    await self._receive(connection, on_notice)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001  it is retried, and readers also poll
                logger.info("%s: notices cannot be received for the moment: %s", self._server.url, error)
            await asyncio.sleep(wait)
            wait = min(MAX_WAIT_SECONDS, wait * 2)

    async def close(self) -> None:
        """Let go of the connection that sends."""
        await self._link.close()

    async def _send(self) -> None:
        while self._waiting:
            payloads, self._waiting = list(self._waiting), {}
            self._is_urgent.clear()
            try:
                async with self._link.connection() as connection:
                    await connection.execute(_SEND, CHANNEL, payloads, timeout=SEND_TIMEOUT)
            except Exception as error:  # noqa: BLE001  nothing depends on a notice
                logger.info("%s: %d notices are lost: %s", self._server.url, len(payloads), error)
                return
            await wait_up_to(PAUSE, self._is_urgent)

    async def _receive(self, connection: asyncpg.Connection[asyncpg.Record], on_notice: OnNotice) -> None:
        """Receive notices until the connection is lost."""
        lost = asyncio.Event()

        def receive(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            notice = read_notice(self._sender, str(payload))
            if notice is not None:
                _call(on_notice, notice)

        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, receive)
        while not lost.is_set():
            if not await wait_up_to(CHECK_INTERVAL_SECONDS, lost):
                await connection.execute("SELECT 1", timeout=SEND_TIMEOUT)


def notices_of(writes: Writes, ledger: Ledger) -> list[Notice]:
    """Return the notices for other processes, to send after the batch is committed. Pure."""
    notices: dict[Notice, None] = {Notice(NoticeKind.EVENTS, root_id): None for root_id in writes.events}
    for task_id in {**writes.added, **writes.sets}:
        row = ledger.row(task_id)
        if row is None:
            continue
        sets = writes.sets.get(task_id, {})
        is_new = task_id in writes.added
        is_asked = row.guard("run_requested_at") is not None and row.guard("run_owner") is None
        if is_asked and (is_new or not ASKING.isdisjoint(sets)):
            notices[Notice(NoticeKind.REQUESTED, row.root_id)] = None
        if sets.get("cancel_requested_at") is not None and row.guard("status") == TaskStatus.IN_PROGRESS:
            notices[Notice(NoticeKind.CANCEL, row.root_id)] = None
        if sets.get("owner") is not None and sets.get("status") in TERMINAL:  # a late result
            notices[Notice(NoticeKind.CANCEL, row.root_id)] = None
    return list(notices)


def write_notice(sender: str, notice: Notice) -> str:
    """Return a notice as text."""
    head = dumps([sender, notice.kind, notice.root_id]).decode()
    if notice.event is None:
        return head
    [page] = pages(notice.root_id, [notice.event])
    return f"{head}\n{page.body}"


def read_notice(sender: str, payload: str) -> Notice | None:
    """Parse a notice; None if it is from `sender` itself, or invalid."""
    try:
        head, _, body = payload.partition("\n")
        by, kind, root_id = loads(head)
        event: TaskEvent | None = next(read_page(root_id, body)) if body else None
        return None if by == sender else Notice(NoticeKind(kind), root_id, event)
    except (ValueError, TypeError) as error:  # another program uses the channel, or a newer apflow
        logger.debug("A notice cannot be read: %s", error)
        return None


def _call(on_notice: OnNotice, notice: Notice) -> None:
    try:
        on_notice(notice)
    except Exception:  # the next notice must still be processed
        logger.exception("A notice could not be processed: %s", notice)
