"""Serves the calls of executors that a runner brings into this process.

A call is made as an attempt of a run is: with the same limits, logs, timeouts and masking of secrets. What
its code needs of the store, it requests from the owner of the call: the process that runs the tree.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Final

from apflow.core.capture.installation import install as install_capture
from apflow.core.capture.task_log import TaskLog
from apflow.core.concurrency.containment import CodeTasks, call_contained, shielded
from apflow.core.concurrency.exit_fence import end_code, enter_code
from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.engine.attempt import Attempt
from apflow.core.engine.call_messages import lines_to_json
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.served_requests import Requests, ServedRunningCall
from apflow.core.errors import ConflictError, ExecutorNotFoundError, ExtensionTakenError
from apflow.core.extensions.executor_call import (
    ANSWER,
    ASKED,
    BEGAN,
    CANCEL,
    EVENT,
    INPUTS,
    LINES,
    RELEASE,
    ExecutorCall,
    Message,
    Receive,
    import_path_of,
)
from apflow.core.extensions.hooks import Hooks
from apflow.core.extensions.registry import executor_is_known, get_executor, get_registry
from apflow.core.extensions.runner import LocalRunner
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, Task
from apflow.core.permissions.capability_policy import policy_from_json
from apflow.core.planning.outcome import interrupted, outcome_to_json, read_exception
from apflow.core.settings import Settings, get_settings

FLUSH_SECONDS: Final = 0.2  # between two messages with lines of a log, unless the call ends
NO_HOOKS: Final = Hooks((), (), {}, 1.0)  # those of a task are called by the owner


class CallServer:
    """Serves calls in the event loop in which it is used.

    Args:
        settings: those of this process, if None. What tasks may touch is also limited by the owner's.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or get_settings()
        self._served: dict[str, _ServedCall] = {}

    @property
    def running(self) -> list[str]:
        """The ids of the calls that are served now."""
        return list(self._served)

    async def serve(self, call: ExecutorCall, send: Receive) -> dict[str, Json]:
        """Make a call, and return its outcome as plain data, for `Runner.run`.

        Cancelling this coroutine ends the code of the executor first; code that ignores its cancellation is
        left behind after `cancel_grace` and `cancel_wait`.

        Args:
            send: takes each message for the owner, in order. Called in the running event loop; it must not
                block or raise.

        Raises:
            ConflictError: a call with this id is served already.
        """
        if call.id in self._served:
            raise ConflictError(f"Call {call.id} is served already.")
        served = self._served[call.id] = _ServedCall(call, send, self._settings)
        try:
            return await served.serve()
        finally:
            del self._served[call.id]

    def receive(self, call_id: str, message: Message) -> bool:
        """Take a message of the owner; return false if the call does not run. Call this in the event loop."""
        served = self._served.get(call_id)
        if served is not None:
            served.receive(message)
        return served is not None


class _ServedCall:
    """One call, from its start to its outcome."""

    def __init__(self, call: ExecutorCall, send: Receive, settings: Settings) -> None:
        self._call, self._send = call, send
        self._loop = asyncio.get_running_loop()
        self._requests = Requests(send)
        self._over = asyncio.Event()
        self._error: BaseException | None = None
        self._asking: asyncio.Task[None] | None = None
        tasks = call.stored_tasks()
        self._lines = _Lines(self._loop, send)
        self._context = RunContext(
            hooks=NO_HOOKS,
            runner=LocalRunner(),
            settings=settings,
            instances={},
            owners_policy=policy_from_json(call.allowed_capabilities),
            running_call=self._running_call,
        )
        self._code = CodeTasks(self._fail)
        self._context.join(tasks, self._publish, _ignore_progress, self._code, lambda: 0, self._lines)
        self._attempt = Attempt(self._context, tasks[str(call.task["id"])], self._end)

    async def serve(self) -> dict[str, Json]:
        """Make the call and return its outcome."""
        if self._context.log_limits is not None:
            install_capture()
        try:
            _import(self._call)
        except Exception as error:  # noqa: BLE001 - the border to users' code
            return outcome_to_json(read_exception(error))
        attempt = self._attempt
        self._code.create_task(self._make(), name=f"apflow:{attempt.task.id}")
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            attempt.request_cancel(None)
            attempt.expect_no_answer()  # the owner has asked before, if it asks at all
            with shielded():
                await attempt.insist("the call is cancelled")
            raise
        finally:
            self._requests.close()
            if self._asking is not None:
                self._asking.cancel()
            self._lines.flush()
        if self._error is not None:
            return outcome_to_json(read_exception(self._error))
        if self._call.wants_inputs and attempt.was_called:
            self._send({"kind": INPUTS, "inputs": attempt.inputs})
        return outcome_to_json(attempt.outcome or interrupted("Its call was ended"))

    def receive(self, message: Message) -> None:
        """Take a message of the owner. Kinds that only a later version knows are ignored."""
        kind = message["kind"]
        if kind == ANSWER:
            self._requests.answer(message)
        elif kind == CANCEL and self._asking is None and not self._over.is_set():
            self._asking = asyncio.create_task(self._ask(message), name="apflow:ask")
        elif kind == RELEASE:
            self._requests.is_continued = True

    async def _make(self) -> None:
        enter_code()
        try:
            current = asyncio.current_task()
            assert current is not None  # it is this coroutine's
            await self._attempt.run(current)
        finally:
            end_code()

    async def _ask(self, message: Message) -> None:
        """Request the cancellation, and send what the executor's `cancel` returns."""
        self._attempt.request_cancel(message["message"])
        await self._attempt.ask_to_end(self._loop.time() + message["seconds"])
        is_cancelable = self._attempt.is_cancelable()
        self._send({"kind": ASKED, "answer": self._attempt.answer, "is_cancelable": is_cancelable})

    def _running_call(self, task: Task, secrets: list[str]) -> ServedRunningCall:
        self._send({"kind": BEGAN})
        return ServedRunningCall(self._requests, task, self._context.tasks[task.root_id], secrets)

    def _end(self, _: Attempt) -> None:
        self._over.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._over.set()

    def _publish(self, event: TaskEvent) -> None:
        shown = {
            "type": str(event.type),
            "progress": event.progress,
            "message": event.message,
            "data": event.data,
        }
        self._send({"kind": EVENT, "event": shown})


class _Lines:
    """The `LogQueue` of one call: sends the lines of its log to the owner."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Receive) -> None:
        self.lock: AbstractContextManager[object] = threading.RLock()
        self.pending = 0
        self._loop, self._send = loop, send
        self._log: TaskLog | None = None
        self._is_awake = False

    def enqueue(self, log: TaskLog) -> bool:
        """See `LogQueue.enqueue`."""
        self._log = log
        is_first, self._is_awake = not self._is_awake, True
        return is_first

    def wake(self) -> None:
        """See `LogQueue.wake`."""
        call_in_loop(self._loop, self._loop.call_later, FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Send the lines that wait."""
        with self.lock:
            entries = [] if self._log is None else self._log.take()
            self._is_awake = False
        if entries:
            self._send({"kind": LINES, "lines": lines_to_json(entries)})


def _import(call: ExecutorCall) -> None:
    """Register the executor that code of the owner has registered.

    Raises:
        ExecutorNotFoundError: this process cannot import it.
        ExtensionTakenError: another executor has its id here.
        Exception: its module raises it.
    """
    if call.import_path is None:
        return
    if not executor_is_known(call.executor_id):
        module, _, name = call.import_path.partition(":")
        try:
            found: Any = call_contained(lambda: import_module(module))
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            advice = f"{call.import_path} cannot be imported where the call is made: {error}"
            raise ExecutorNotFoundError(call.executor_id, advice) from error
        if not executor_is_known(call.executor_id):  # the import may have registered it
            get_registry().register(found, call.executor_id)
    here = import_path_of(get_executor(call.executor_id).source)
    if here != call.import_path:
        raise ExtensionTakenError(call.executor_id, str(here), call.import_path)


def _ignore_progress(task_id: str, fraction: float) -> None:
    del task_id, fraction  # the owner notes it when it receives the event
