"""Threads for blocking code of users: its call can be interrupted, and left behind if it never ends.

The threads are daemons, so that code that hangs does not keep the process from ending. A thread is started
when none is idle. The engine bounds their number, because it bounds the executor calls of a process.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

from apflow.core.concurrency.loop_call import call_in_loop
from apflow.core.process.identity import after_fork_in_child

IDLE_SECONDS: Final = 30.0  # after which an unused thread ends
LAST_SECONDS: Final = 1.0  # for the end of a call that is interrupted after its grace


class ThreadCall:
    """One call of a function in a thread.

    Args:
        call: the function.
        when_over: called in the thread when the call has ended.
    """

    def __init__(self, call: Callable[[], object], when_over: Callable[[], object]) -> None:
        self.value: object = None
        self.error: BaseException | None = None
        self._call = call
        self._when_over = when_over
        self._lock = threading.Lock()  # guards `_thread`
        self._thread: int | None = None  # id of the thread during the call

    def run(self) -> None:
        """Make the call and keep its value or its error."""
        try:
            self._thread = threading.get_ident()
            self.value = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again on the event loop
            self.error = error
        while True:
            try:
                with self._lock:
                    self._thread = None  # no interruption can come from here on
                for _ in range(3):
                    pass  # CPython raises a pending interruption here
                break
            except asyncio.CancelledError:
                continue  # an interruption that came after the end of the call
        self._when_over()

    def interrupt(self) -> None:
        """Raise `CancelledError` in the thread, at its next jump or call in Python.

        Code that waits inside a C function (a socket, `time.sleep`) is interrupted when that returns.
        """
        with self._lock:
            if self._thread is not None:
                _raise_in(self._thread, asyncio.CancelledError)


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Make a thread raise an error.

    The error is never withdrawn (by NULL): CPython 3.11 would check for one at every jump from then on.
    """
    set_error = getattr(getattr(ctypes, "pythonapi", None), "PyThreadState_SetAsyncExc", None)
    if set_error is not None:  # CPython
        set_error(ctypes.c_ulong(thread), ctypes.py_object(error))


class CodeThreads:
    """Starts calls in threads, and keeps idle threads for a while."""

    def __init__(self) -> None:
        self.forget_threads()

    def forget_threads(self) -> None:
        """Start without threads. In a forked process, those of its parent do not exist."""
        self._lock = threading.Lock()
        self._calls: SimpleQueue[ThreadCall] = SimpleQueue()
        self._idle = 0  # threads that wait for a call and are not promised one

    def start(self, call: ThreadCall) -> None:
        """Make a call in an idle thread, or in a new one."""
        with self._lock:
            is_new = self._idle == 0
            self._idle -= not is_new
            self._calls.put(call)
        if is_new:
            threading.Thread(target=self._work, name="apflow:code", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=IDLE_SECONDS)
            except Empty:
                if self._may_end():
                    return
                continue
            call.run()
            del call  # and with it the value and the context
            with self._lock:
                self._idle += 1

    def _may_end(self) -> bool:
        """Whether no call is promised to the idle threads, this one included."""
        with self._lock:
            may_end = self._idle > 0
            self._idle -= may_end
            return may_end


_threads = CodeThreads()


class CallLeftBehindError(asyncio.CancelledError):
    """The call was interrupted and does not end."""


async def call_in_thread(
    call: Callable[[], object],
    *,
    grace: float,
    when_asked: Callable[[], object],
    is_patient: Callable[[], bool],
) -> Any:
    """Call a function in a thread; return its value or raise its error.

    Cancelling this interrupts the call, again at each cancellation, and waits for its end. If the call does
    not end within `grace` seconds, it is left behind.

    Args:
        grace: seconds that the call has for its end, from the first cancellation.
        when_asked: called at the first cancellation.
        is_patient: called then; if it returns true, the call is interrupted only after `grace` seconds,
            because it ends by itself.

    Raises:
        CallLeftBehindError: the call did not end. It still runs in its thread.
    """
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def note() -> None:
        call_in_loop(loop, over.set)  # if the loop is closed, the call was left behind

    made = ThreadCall(call, note)
    _threads.start(made)
    try:
        await over.wait()
    except asyncio.CancelledError as cancelled:
        waits = is_patient()
        when_asked()
        if waits:
            await _wait(over, grace, on_cancel=None)
        if not over.is_set():
            made.interrupt()
            await _wait(over, LAST_SECONDS if waits else grace, on_cancel=made.interrupt)
        if not over.is_set():
            raise CallLeftBehindError from cancelled
    error, made.error = made.error, None  # the traceback of the error refers to the frame that has `made`
    try:
        if error is not None:
            raise error
        return made.value
    finally:
        del error


async def _wait(over: asyncio.Event, seconds: float, *, on_cancel: Callable[[], object] | None) -> None:
    """Wait for the end of a call, at most so many seconds, whatever cancels this."""
    until = asyncio.get_running_loop().time() + seconds
    while not over.is_set():
        try:
            async with asyncio.timeout_at(until):
                await over.wait()
        except TimeoutError:
            return
        except asyncio.CancelledError:
            if on_cancel is not None:
                on_cancel()


after_fork_in_child(_threads.forget_threads)
