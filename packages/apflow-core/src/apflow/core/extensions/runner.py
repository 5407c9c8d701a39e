"""Where executors are called: in this process, or wherever a runner makes the calls.

The setting `runner` names an entry point of the group `apflow.runners`: a class or a function without
parameters that returns a `Runner`, or a subclass of `LocalRunner`, which calls executors in this process.
With the name `workers`, the workers of the same database make the calls.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import cache
from typing import Any, Final, Protocol, cast

from apflow.core import plugins
from apflow.core.concurrency.containment import INSIST_SECONDS
from apflow.core.errors import PluginLoadError, SettingsError
from apflow.core.extensions.calling import call_execute, running_executor
from apflow.core.extensions.executor import ExecutableTask
from apflow.core.extensions.executor_call import ExecutorCall, Message, Receive
from apflow.core.model.task import Json
from apflow.core.process.error_text import describe_error
from apflow.core.settings import get_settings

GROUP: Final = "apflow.runners"
LOCAL: Final = "local"  # the name of `LocalRunner`, which is always there
WORKERS: Final = "workers"  # the workers of the same store make the calls, see `engine.placement`
BLOCKING_ADVICE: Final = (
    "Make the function sync (`def`, not `async def`), so that it runs in a thread, or call what blocks by "
    "`await asyncio.to_thread(...)`."
)
BLOCKED_SECONDS: Final = 0.1  # after a timeout: code that ends later has blocked the event loop


class Runner(Protocol):
    """Makes calls of executors in other processes. One instance serves all event loops of a process.

    See `engine.call_server.CallServer` for the side that serves the calls.
    """

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        """Make a call, and return the outcome with which `CallServer.serve` ended it.

        Cancelling this coroutine must end the executor's code before it returns.

        Args:
            receive: takes each message that the call sends, in order. To be called in the running event loop.

        Raises:
            CallLostError: the process that served the call has ended, or cannot be reached. Its code may have
                run, and does not run any more, or its outcome will be refused.
            RunnerUnavailableError: the call has not been made, and no call can be made now.
        """
        ...

    async def send(self, call_id: str, message: Message) -> bool:
        """Send a message to a call: `CallServer.receive` takes it. Return false if the call does not run."""
        ...

    async def close(self) -> None:
        """Release what serves the running event loop. Called when a process ends, or by its user."""
        ...


def timeout_message(seconds: float) -> str:
    """Return the message for an attempt that exceeded its timeout."""
    return f"The attempt took longer than {seconds:g} s (policy.timeout)."


class LocalRunner:
    """Calls executors in this process: an async `execute` on the event loop, any other in a thread."""

    async def call(self, executor: ExecutableTask, inputs: dict[str, Json], timeout: float | None) -> Json:
        """Return what the executor returns; raise what it raises.

        A subclass may do more around the call. Cancelling this coroutine must end the executor's code before
        it returns.

        Args:
            inputs: what `execute` is called with, as a JSON object.
            timeout: seconds that the call may take; None for no limit.

        Raises:
            TimeoutError: the time is over.
        """
        token = running_executor.set(executor)
        try:
            if timeout is None:
                return await call_execute(executor, inputs)
            return await _call_within(executor, inputs, timeout)
        finally:
            running_executor.reset(token)


AnyRunner = LocalRunner | Runner


def chosen_runner() -> AnyRunner:
    """Return the runner that the setting `runner` names. It is made once in each process.

    Raises:
        SettingsError: no installed distribution offers a runner of that name.
        PluginError: it cannot be loaded or made, or two distributions offer it.
    """
    name = get_settings().runner
    if name in (LOCAL, WORKERS):
        return LocalRunner()  # it makes the calls that stay in this process
    info = plugins.find(GROUP, name)
    if info is None:
        known = ", ".join(sorted({LOCAL, WORKERS, *plugins.names(GROUP)}))
        raise SettingsError(
            f"APFLOW_RUNNER is {name!r}, but no installed package offers a runner of that name. There are: "
            f"{known}. Install the package that offers it, or choose another runner."
        )
    made, cause = _made(cast("Callable[[], object]", plugins.load(GROUP, name)))
    if cause:
        raise PluginLoadError(GROUP, name, info.distribution, info.version, f"{info.value} {cause}")
    return cast("AnyRunner", made)


@cache
def _made(factory: Callable[[], object]) -> tuple[object, str]:
    """Return what a plugin makes, and why that is not a runner; empty if it is one."""
    try:
        made = factory()
    except Exception as error:  # noqa: BLE001 - the plugin's own code
        return None, f"makes no runner: {plugins.without_paths(describe_error(error))}"
    is_runner = isinstance(made, LocalRunner) or inspect.iscoroutinefunction(getattr(made, "run", None))
    return made, "" if is_runner else f"makes a {type(made).__name__}, which has no `async def run`"


async def _call_within(executor: ExecutableTask, inputs: dict[str, Json], timeout: float) -> Json:
    deadline = _Deadline(timeout)
    try:
        result = await _Timed(call_execute(executor, inputs), deadline)
    except BaseException as error:
        if not deadline.is_over() or not isinstance(error, (Exception, asyncio.CancelledError)):
            raise
        raise TimeoutError(deadline.message()) from error
    finally:
        deadline.close()
    if deadline.is_over():  # the code swallowed its cancellation, or blocked the event loop
        raise TimeoutError(deadline.message())
    return result


class _Deadline:
    """Cancels the current asyncio task when its time is over, again and again until it is closed.

    `asyncio.timeout` believes code that swallows its cancellation, and is misled by code that has cancelled
    its own task before.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_passed = False
        self._blocked_seconds = 0.0  # for which the code has blocked the event loop after the deadline
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._until, self._pass)

    def _pass(self) -> None:
        self._has_passed = True
        if self._task is not None:
            self._task.cancel("the time is over")
        self._timer = self._loop.call_later(INSIST_SECONDS, self._pass)

    def is_over(self) -> bool:
        """Whether the time is over, even if the event loop was blocked when it ended."""
        return self._has_passed or self._loop.time() >= self._until

    def end_step(self) -> None:
        """Record that the code has run without a break until now, since before the deadline."""
        if not self._has_passed:
            self._blocked_seconds = max(self._blocked_seconds, self._loop.time() - self._until)

    def message(self) -> str:
        """Return the message for people."""
        message = timeout_message(self._seconds)
        if self._blocked_seconds < BLOCKED_SECONDS:
            return message
        late = f"Its code blocked the event loop, so it ended {self._blocked_seconds:.1f} s late."
        return f"{message} {late} {BLOCKING_ADVICE}"

    def close(self) -> None:
        """Stop cancelling."""
        self._timer.cancel()


class _Timed:
    """An awaitable that reports the end of each step of its code to a deadline."""

    __slots__ = ("_awaitable", "_deadline")

    def __init__(self, awaitable: Awaitable[Json], deadline: _Deadline) -> None:
        self._awaitable, self._deadline = awaitable, deadline

    def __await__(self) -> Generator[Any, Any, Json]:
        steps = self._awaitable.__await__()
        if not hasattr(steps, "throw"):
            return (yield from steps)
        error: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                error = None  # its traceback refers to this frame
                self._deadline.end_step()
            try:
                yield waits_for
            except BaseException as raised:  # noqa: BLE001 - raised where the code waits
                error = raised
