"""The runner: brings calls to the workers of a Dask cluster, and their messages and outcomes back."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from distributed import Client
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from apflow.core.concurrency.loop_local import LoopLocal
from apflow.core.errors import ApflowError, CallLostError, RunnerUnavailableError
from apflow.core.extensions.executor_call import ExecutorCall, Message, Receive
from apflow.core.model.resources import Needs
from apflow.core.model.task import Json
from apflow.core.settings import Settings, get_settings
from apflow.runner.dask.call_service import (
    CALL,
    ENDED,
    EVENTS,
    FETCH,
    MESSAGES,
    OUTCOME,
    WORKER,
    describe,
    end_call,
    fetch,
    key_of,
    make_call,
    receive,
)
from apflow.runner.dask.cluster import address_of, check_scheduler, check_workers, security_of
from apflow.runner.dask.scheduler_plugin import NAME, NoRecomputation

logger = logging.getLogger(__name__)

DESCRIBE_SECONDS: Final = 10.0  # between looks at the workers of the cluster
RETRY_SECONDS: Final = 0.5  # between attempts to reach the scheduler or a first worker
LAST_EVENTS_SECONDS: Final = 5.0  # for events of a call that arrive after its outcome
SUBMIT_SECONDS: Final = 0.02  # between two batches of calls: each takes the scheduler a millisecond
END_SECONDS: Final = 10.0  # beyond the grace periods, for the end of a call that is cancelled

Workers = tuple[str, ...] | None  # addresses; None: all
Amounts = tuple[tuple[str, float], ...]  # of the resources of Dask that a call uses
# What a client raises if it has no connection, or loses it.
_UNREACHABLE: Final = (OSError, TimeoutError, RuntimeError, CommClosedError)


class DaskRunner:
    """Makes calls on a Dask cluster; see `Runner`.

    Settings name the scheduler (`dask_address`, with `dask_tls_ca`, `dask_tls_cert` and `dask_tls_key` for
    TLS). If they name none, a local cluster is started, of `dask_workers` processes that each make up to
    `dask_threads` calls at once. Each event loop has one connection to the scheduler, which is made again if
    it is lost.

    Args:
        settings: those of this process, if None.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._connections = LoopLocal(self._connection, lambda connection: connection.close())

    def _connection(self) -> _Connection:
        return _Connection(self._settings or get_settings())

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        """See `Runner.run`."""
        return await (await self._connections.get()).run(call, receive)

    async def send(self, call_id: str, message: Message) -> bool:
        """See `Runner.send`."""
        return await (await self._connections.get()).send(call_id, message)

    async def close(self) -> None:
        """See `Runner.close`. A local cluster ends with its process."""
        await self._connections.close()


@dataclass(slots=True)
class _RunningCall:
    """What is known of a call while it runs."""

    receive: Receive
    worker: str | None = None  # the address of the worker that makes it
    received: int = 0  # events
    waiting: list[Mapping[str, Json]] = field(default_factory=list[Mapping[str, Json]])  # events
    fetching: asyncio.Task[None] | None = None  # takes those that wait, while it fetches large ones
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)  # an event has been taken

    def take(self, messages: Sequence[Message]) -> None:
        """Pass the messages of an event to the owner of the call."""
        self.received += 1
        for each in messages:
            self.receive(each)
        self.has_changed.set()

    async def taken(self, events: int) -> None:
        """Wait until so many events have been taken."""
        while self.received < events:
            self.has_changed.clear()
            await self.has_changed.wait()


class _Connection:
    """The connection of one event loop to a scheduler."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = f"apflow-{uuid.uuid4().hex}"
        self._client: Any = None  # a `distributed.Client`, whose methods have no types; None: not connected
        self._connecting = asyncio.Lock()
        self._calls: dict[str, _RunningCall] = {}
        # Calls to submit, by client and workers.
        self._batches: dict[tuple[Any, Workers, Amounts], list[tuple[ExecutorCall, asyncio.Future[Any]]]] = {}
        self._submitted_at = float("-inf")
        self._workers: dict[str, dict[str, Any]] = {}  # by address, what they say of themselves
        self._described_at = float("-inf")

    async def close(self) -> None:
        """Close the connection. Workers end the calls that run."""
        client, self._client = self._client, None
        if client is not None:
            await _close(client)

    # --- calls -------------------------------------------------------------------------------------

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        """Make a call and return its outcome."""
        client = await self._connected()
        workers = await self._workers_for(client, call)
        running = self._calls[call.id] = _RunningCall(receive)
        try:
            future = await self._submitted(client, call, workers)
            answer = await self._answer(client, call.id, future)
            if answer.get(ENDED):
                raise CallLostError(_place(running), "it was ended there.")
            if running.received < answer[EVENTS]:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_EVENTS_SECONDS):
                        await running.taken(answer[EVENTS])
            running.take(answer[MESSAGES])
            return cast("Mapping[str, Json]", answer[OUTCOME])
        finally:
            del self._calls[call.id]

    async def _submitted(self, client: Any, call: ExecutorCall, workers: Workers) -> Any:
        """Submit a call, together with others that are submitted now."""
        submitted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        key = client, workers, tuple(sorted(Needs.of(call.resources).amounts.items()))
        if not self._batches:  # the first one after a pause is not delayed
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._submitted_at + SUBMIT_SECONDS), self._submit)
        self._batches.setdefault(key, []).append((call, submitted))
        return await submitted

    def _submit(self) -> None:
        self._submitted_at = asyncio.get_running_loop().time()
        batches, self._batches = self._batches, {}
        for (client, workers, amounts), waiting in batches.items():
            batch = [each for each in waiting if not each[1].done()]  # the others were cancelled meanwhile
            if not batch:
                continue
            try:
                futures = client.map(
                    make_call,
                    [call.to_json() for call, _ in batch],
                    [self._topic] * len(batch),
                    key=[key_of(call.id) for call, _ in batch],
                    pure=False,
                    retries=0,
                    workers=None if workers is None else list(workers),
                    resources=dict(amounts) or None,
                )
            except Exception as error:  # noqa: BLE001 - raised where the calls are submitted
                for _, submitted in batch:
                    submitted.set_exception(error)
                continue
            for future, (_, submitted) in zip(futures, batch, strict=True):
                submitted.set_result(future)

    async def _answer(self, client: Any, call_id: str, future: Any) -> Mapping[str, Json]:
        """Wait for the end of the Dask task. If this is cancelled, end the call, and wait for that."""
        running = self._calls[call_id]
        try:
            return cast("Mapping[str, Json]", await future)
        except asyncio.CancelledError:
            await self._end(client, call_id, future)
            raise
        except FutureCancelledError as error:
            raise CallLostError(_place(running), f"{error.reason}.") from error
        except KilledWorker as error:
            raise CallLostError(_place(running), "the worker has ended.") from error
        except ImportError as error:
            raise RunnerUnavailableError(
                f"A worker of the cluster cannot import what serves calls: {error}. Install "
                "apflow-runner-dask and the packages of the executors where the workers run."
            ) from error
        except _UNREACHABLE as error:
            raise CallLostError(_place(running), f"{type(error).__name__}: {error}.") from error
        finally:
            future.release()

    async def _end(self, client: Any, call_id: str, future: Any) -> None:
        """End the code of a call, and wait for its end for a limited time."""
        running = self._calls[call_id]
        seconds = self._settings.cancel_grace + self._settings.cancel_wait + END_SECONDS
        workers = None if running.worker is None else [running.worker]
        with suppress(*_UNREACHABLE, ValueError):
            async with asyncio.timeout(seconds):
                await _run(client, end_call, call_id, workers=workers)
                if workers is None:  # it has not begun, and does not begin any more
                    await client.cancel([future])

    async def send(self, call_id: str, message: Message) -> bool:
        """Send a message to a call: to all workers, as long as it is not known which one makes it."""
        running, client = self._calls.get(call_id), self._client
        if running is None or client is None:
            return False
        workers = None if running.worker is None else [running.worker]
        return any((await _run(client, receive, call_id, dict(message), workers=workers)).values())

    def _take(self, stamped: tuple[float, Mapping[str, Json]]) -> None:
        """Take a message that a worker has sent as an event."""
        _, event = stamped
        running = self._calls.get(event[CALL])
        if running is None:
            return
        running.worker = event[WORKER]
        if running.fetching is None and FETCH not in event:
            running.take(event[MESSAGES])
            return
        running.waiting.append(event)  # in order: behind messages that are fetched
        if running.fetching is None:
            running.fetching = asyncio.create_task(self._fetch(running), name="apflow:dask:fetch")

    async def _fetch(self, running: _RunningCall) -> None:
        """Take the events that wait, and fetch the messages of large ones."""
        try:
            while running.waiting:
                event = running.waiting.pop(0)
                if FETCH not in event:
                    running.take(event[MESSAGES])
                elif self._client is not None:
                    worker = event[WORKER]
                    found = await _run(self._client, fetch, event[CALL], event[FETCH], workers=[worker])
                    running.take(found[worker])
        except (*_UNREACHABLE, KeyError) as error:
            logger.warning("Messages of a call could not be fetched from its worker: %s", error)
        finally:
            running.fetching = None

    # --- the cluster -------------------------------------------------------------------------------

    async def _connected(self) -> Any:
        """Return a client that is connected; connect, again if need be, for `dask_wait` seconds.

        Raises:
            RunnerUnavailableError: the scheduler cannot be reached, or the cluster cannot be used.
            SettingsError: the files for TLS cannot be used.
        """
        if self._client is not None and self._client.status == "running":
            return self._client
        loop, seconds = asyncio.get_running_loop(), self._settings.dask_wait
        until = loop.time() + seconds  # also of calls that wait until another one has tried
        async with self._connecting:
            if self._client is not None and self._client.status == "running":
                return self._client
            await self.close()
            security = security_of(self._settings)
            while True:
                try:
                    return await self._connect(security, max(RETRY_SECONDS, until - loop.time()))
                except ApflowError:
                    raise
                except _UNREACHABLE as error:
                    if loop.time() + RETRY_SECONDS >= until:
                        address = self._settings.dask_address or "of the local cluster"
                        raise RunnerUnavailableError(
                            f"The Dask scheduler {address} cannot be reached within {seconds:g} s "
                            f"(APFLOW_DASK_WAIT): {error}"
                        ) from error
                await asyncio.sleep(RETRY_SECONDS)

    async def _connect(self, security: Any, seconds: float) -> Any:
        address = await asyncio.to_thread(address_of, self._settings)
        make: Any = Client  # it has no types
        client = make(
            address,
            asynchronous=True,
            security=security,
            timeout=seconds,
            set_as_default=False,
            name="apflow",
        )
        try:
            await client
            check_scheduler(await client.run_on_scheduler(_allowed_failures))
            await client.register_plugin(NoRecomputation(), name=NAME)
            client.subscribe_topic(self._topic, self._take)
            await self._describe(client, seconds)
        except BaseException:
            await _close(client)
            raise
        self._client = client
        return client

    async def _workers_for(self, client: Any, call: ExecutorCall) -> Workers:
        """Return the workers that can make a call; None for all of them.

        Raises:
            RunnerUnavailableError: none has the executor, or the call needs labels, which Dask does not have.
        """
        labels = Needs.of(call.resources).labels
        if labels:
            raise RunnerUnavailableError(
                f"The call needs {Needs({}, labels)}. Workers of Dask have amounts of resources "
                "(`dask worker --resources 'gpu=1'`), but no labels: give the task amounts only."
            )
        if asyncio.get_running_loop().time() - self._described_at > DESCRIBE_SECONDS:
            try:
                await self._describe(client, self._settings.dask_wait)
            except _UNREACHABLE as error:
                if isinstance(error, ApflowError):
                    raise
                raise RunnerUnavailableError(f"No worker of the Dask cluster answers: {error}") from error
        if call.import_path is not None:
            return None  # a worker imports its module
        able = [address for address, each in self._workers.items() if call.executor_id in each["executors"]]
        if not able:
            raise RunnerUnavailableError(
                f"None of the {len(self._workers)} workers of the Dask cluster has the executor "
                f"{call.executor_id!r}. Install its package where they run."
            )
        return None if len(able) == len(self._workers) else tuple(able)

    async def _describe(self, client: Any, seconds: float) -> None:
        """Ask the workers for their versions and executors; wait so long for a first worker."""
        self._described_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(seconds):
            workers = await _run(client, describe)
            while not workers:
                await asyncio.sleep(RETRY_SECONDS)
                workers = await _run(client, describe)
        check_workers(workers)
        self._workers = workers


def _place(running: _RunningCall) -> str:
    return "the cluster" if running.worker is None else f"worker {running.worker}"


async def _close(client: Any) -> None:
    with suppress(*_UNREACHABLE):
        await client.close()


async def _run(
    client: Any, function: Callable[..., Any], *arguments: Any, workers: Sequence[str] | None = None
) -> dict[str, Any]:
    """Run a function on workers, by default on all; return the results by address."""
    running = client.run(function, *arguments, workers=workers)
    return cast("dict[str, Any]", await running)


def _allowed_failures(dask_scheduler: Any) -> int:
    return int(dask_scheduler.allowed_failures)
