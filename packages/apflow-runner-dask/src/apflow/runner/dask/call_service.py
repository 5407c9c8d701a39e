"""What runs on the workers of a Dask cluster: it serves the calls that `DaskRunner` sends.

Dask does not stop a running coroutine when its future is cancelled, and a worker does not learn that the
client of a task has ended. So each worker keeps the calls that it serves: the client ends a call by its id,
and the worker ends the calls that the scheduler has forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from distributed.worker import Worker, get_worker

from apflow.core import plugins
from apflow.core.engine.call_server import CallServer
from apflow.core.extensions.executor_call import FORMAT, ExecutorCall, Message
from apflow.core.extensions.registry import GROUP
from apflow.core.model.task import Json
from apflow.core.payload.json_value import size_of

logger = logging.getLogger(__name__)

MAX_EVENT_BYTES: Final = 16 << 10  # larger messages wait at the worker until the client fetches them
COLLECT_SECONDS: Final = (
    0.01  # for which messages are collected; those of a shorter call come with its answer
)
WATCH_SECONDS: Final = 0.5  # between looks whether the scheduler still wants a call
MAX_REFUSED: Final = 10_000  # ids of calls that were ended before they began

# The answer of a Dask task.
ENDED: Final = "ended"  # the call was ended from outside
OUTCOME: Final = "outcome"  # of the call
EVENTS: Final = "events"  # how many events the call has sent
# The events of a topic; `MESSAGES` are in the answer, too: those that no event contains.
CALL: Final = "call"  # its id
WORKER: Final = "worker"  # the address of the worker that makes it
MESSAGES: Final = "messages"
FETCH: Final = "fetch"  # instead of messages that are large together: the number of the event


PREFIX: Final = "apflow-"  # of the keys of Dask tasks that make calls


def key_of(call_id: str) -> str:
    """Return the key of the Dask task that makes a call."""
    return f"{PREFIX}{call_id}"


class CallService:
    """The calls that one worker serves."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._server = CallServer()
        self._running: dict[str, asyncio.Future[dict[str, Json]]] = {}
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._large: dict[tuple[str, int], list[Json]] = {}  # messages that wait until they are fetched
        self._watching: asyncio.Task[None] | None = None

    async def make(self, data: Mapping[str, Json], topic: str) -> dict[str, Json]:
        """Make a call; return its outcome and the number of its messages, or that it was ended."""
        call = ExecutorCall.from_json(data)
        if call.id in self._refused:
            del self._refused[call.id]
            return {ENDED: True}
        outbox = _Outbox(self._worker, topic, call.id, self._large)
        serving = self._running[call.id] = asyncio.ensure_future(self._server.serve(call, outbox.send))
        self._watch()
        try:
            outcome = await serving
        except asyncio.CancelledError:
            if not serving.cancelled():  # the worker itself cancels this
                serving.cancel()
                raise
            return {ENDED: True}
        finally:
            del self._running[call.id]
            outbox.close()
        return {OUTCOME: outcome, MESSAGES: outbox.messages, EVENTS: outbox.events}

    def receive(self, call_id: str, message: Message) -> bool:
        """Pass a message of the owner to a call; return false if the call does not run here."""
        return self._server.receive(call_id, message)

    async def end(self, call_id: str) -> None:
        """End the code of a call, and wait until it has ended; if it has not begun, it never does."""
        serving = self._running.get(call_id)
        if serving is None:
            self._refused[call_id] = None
            if len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)
            return
        serving.cancel()
        await asyncio.wait([serving])

    def fetch(self, call_id: str, number: int) -> list[Json]:
        """Return the large messages of an event, once."""
        return self._large.pop((call_id, number))

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._keep_watching(), name="apflow:dask:watch")

    async def _keep_watching(self) -> None:
        """While calls run, end those that the scheduler has forgotten because their client has ended."""
        while self._running or self._large:
            await asyncio.sleep(WATCH_SECONDS)
            tasks = self._worker.state.tasks
            for call_id, serving in list(self._running.items()):
                known = tasks.get(key_of(call_id))
                if known is None or known.state == "cancelled":
                    logger.warning("Call %s has no owner any more: its code is ended.", call_id)
                    serving.cancel()
            for place in [each for each in self._large if key_of(each[0]) not in tasks]:
                del self._large[place]


class _Outbox:
    """Collects the messages of one call, and sends them as events.

    Attributes:
        messages: those that are not sent yet.
        events: how many events were sent.
    """

    def __init__(
        self, worker: Worker, topic: str, call_id: str, large: dict[tuple[str, int], list[Json]]
    ) -> None:
        self._worker, self._topic, self._call_id, self._large = worker, topic, call_id, large
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.messages: list[Json] = []
        self.events = 0

    def send(self, message: Message) -> None:
        """Send a message soon."""
        self.messages.append(dict(message))
        if self._timer is None:
            self._timer = self._loop.call_later(COLLECT_SECONDS, self._flush)

    def close(self) -> None:
        """Send no more events: the messages that are left come with the answer."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        messages, self.messages = self.messages, []
        self.events += 1
        event: dict[str, Json] = {CALL: self._call_id, WORKER: self._worker.address}
        if size_of(messages) > MAX_EVENT_BYTES:
            self._large[self._call_id, self.events] = messages
            event[FETCH] = self.events
        else:
            event[MESSAGES] = messages
        self._worker.log_event(self._topic, event)


_services: WeakKeyDictionary[Worker, CallService] = WeakKeyDictionary()


def _service(worker: Worker) -> CallService:
    if worker not in _services:
        _services[worker] = CallService(worker)
    return _services[worker]


# --- what the client has workers do ------------------------------------------------------------------


async def make_call(data: Mapping[str, Json], topic: str) -> dict[str, Json]:
    """Make a call: the Dask task itself."""
    return await _service(get_worker()).make(data, topic)


def receive(call_id: str, message: Message, dask_worker: Worker) -> bool:
    """Pass a message to a call."""
    return _service(dask_worker).receive(call_id, message)


async def end_call(call_id: str, dask_worker: Worker) -> None:
    """End the code of a call."""
    await _service(dask_worker).end(call_id)


def fetch(call_id: str, number: int, dask_worker: Worker) -> list[Json]:
    """Return the large messages of an event."""
    return _service(dask_worker).fetch(call_id, number)


def describe() -> dict[str, Any]:
    """Return what the client checks before it sends calls."""
    return {
        "format": FORMAT,
        "version": plugins.version("apflow-core"),
        "executors": list(plugins.names(GROUP)),
    }
