"""Keeping `SystemExit` and `KeyboardInterrupt` of users' code away from the event loop.

asyncio stops the loop, and so usually the process, when a task or a callback raises either of them. The tasks
of apflow catch them. Those that users' code creates (`asyncio.create_task`, `gather`, in Python 3.11 also
`wait_for`) raise `EscapedError` instead. Callbacks of users' code (`call_later`) are fenced only where apflow
runs the loop itself.

Users' code may also try to cancel tasks that are not its own, such as all tasks of the loop. `_Guarded`
refuses that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import FrameType
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from apflow.core.process.error_text import describe_error

T = TypeVar("T")
TaskFactory = Callable[..., "asyncio.Future[Any]"]

logger = logging.getLogger(__name__)


class EscapedError(Exception):
    """Stands for what users' code raised that is not an `Exception`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(describe_error(error))
        self.error = error


_is_code: ContextVar[bool] = ContextVar("apflow_is_users_code", default=False)
# The task in which the present users' code began. Tasks and callbacks that the code creates inherit it.
_owner: ContextVar[asyncio.Task[Any] | None] = ContextVar("apflow_owner_of_code", default=None)

NAMED: Final = "apflow:"  # the prefix of the names of apflow's own asyncio tasks


def enter_code() -> None:
    """Note that users' code runs in the present task from here on: the tasks that it creates are fenced."""
    _is_code.set(True)
    _owner.set(asyncio.current_task())


def end_code() -> None:
    """Note that the present task, in which `enter_code` was called, ends now.

    Its context would refer to it otherwise: a cycle that only the garbage collector frees.
    """
    _owner.set(None)


def leave_code() -> None:
    """Note that code of apflow runs in the present context from here on."""
    _is_code.set(False)


@contextmanager
def outside_code() -> Generator[None]:
    """Within the context, code of apflow and its plugins runs, although users' code has begun in the task.

    The tasks that it creates, such as those of a connection, may outlive the task and be cancelled by others.
    """
    token, owner = _is_code.set(False), _owner.set(None)
    try:
        yield
    finally:
        _owner.reset(owner)
        _is_code.reset(token)


def create_unfenced(create: Callable[[], T]) -> T:
    """Call a function that creates a task of apflow's own, wherever it is called."""
    token = _is_code.set(False)
    try:
        return create()
    finally:
        _is_code.reset(token)


def guard(loop: asyncio.AbstractEventLoop, *, protects_all: bool = False) -> None:
    """Fence the tasks that users' code creates on a loop. A task factory that the loop has stays in use.

    Args:
        protects_all: users' code may cancel only what it has created; otherwise also tasks of the program
            that apflow is embedded in.
    """
    present = cast("TaskFactory | None", loop.get_task_factory())
    if not isinstance(present, _Factory):
        loop.set_task_factory(cast("Any", _Factory(present, protects_all=protects_all)))


class _Factory:
    """Creates the tasks of a loop."""

    def __init__(self, wrapped: TaskFactory | None, *, protects_all: bool) -> None:
        self._wrapped = wrapped
        self._protects_all = protects_all

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **more: Any
    ) -> asyncio.Future[Any]:
        if _is_code.get() and asyncio.iscoroutine(coroutine):
            coroutine = _Fenced(coroutine)
        if self._wrapped is not None:
            return self._wrapped(loop, coroutine, **more)
        if not _is_code.get():  # in Python 3.11, the name is not known here
            return _Guarded(coroutine, is_protected=self._protects_all, loop=loop, **more)
        return asyncio.Task(coroutine, loop=loop, **more)


class _Guarded(asyncio.Task[Any]):
    """A task that users' code cannot cancel if it is apflow's own, unless the code runs in this task.

    So an executor that cancels `asyncio.all_tasks()` ends its own attempt only. Code that runs a tree itself
    may cancel what was created for that tree.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], *, is_protected: bool = False, **more: Any
    ) -> None:
        self._is_protected = is_protected  # whatever its name is
        context: Context | None = more.get("context")
        self._creator = _owner.get() if context is None else context.get(_owner)
        super().__init__(coroutine, **more)

    def cancel(self, msg: Any = None) -> bool:
        owner = _owner.get()
        is_protected = self._is_protected or self.get_name().startswith(NAMED)
        if owner is None or owner is self or owner is self._creator or not is_protected:
            return super().cancel(msg)
        if owner not in _warned:
            _warned.add(owner)
            logger.warning(
                "Code that runs in %s tried to cancel %s, which does not belong to it. It is not cancelled, "
                "and further attempts of this code are not logged.",
                owner.get_name(),
                self.get_name(),
            )
        return False


_warned: WeakSet[asyncio.Task[Any]] = WeakSet()


class _Fenced(Coroutine[Any, Any, Any]):
    """A coroutine that raises `EscapedError` for what would stop the event loop."""

    __slots__ = ("_coroutine", "owner")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.owner = _owner.get()

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise EscapedError(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._coroutine.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise EscapedError(raised) from raised
        finally:
            del error  # its traceback refers to this frame

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # `cr_frame` and its like, for what inspects tasks


def owner_of_frame(frame: FrameType) -> asyncio.Task[Any] | None:
    """Return the task in which the users' code began that has created the task which a frame runs.

    None if the frame is not the outermost one of a task that users' code has created.
    """
    if frame.f_code is _Fenced.send.__code__ or frame.f_code is _Fenced.throw.__code__:
        return cast("_Fenced", frame.f_locals["self"]).owner
    return None


def run(main: Coroutine[Any, Any, T], *, loop_factory: Callable[[], Any] | None = None) -> T:
    """Run a coroutine to its end, as `asyncio.run` does, whatever callbacks of users' code raise."""

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = (loop_factory or asyncio.new_event_loop)()
        contain(loop)
        guard(loop, protects_all=True)
        return cast("asyncio.AbstractEventLoop", loop)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        result, exit_of_main = runner.run(_without_exit(main))
    if exit_of_main is not None:
        raise exit_of_main
    return cast("T", result)


async def _without_exit(main: Coroutine[Any, Any, T]) -> tuple[T | None, SystemExit | None]:
    try:
        return await main, None
    except SystemExit as error:  # meant: it comes from the program, and the loop must not take it for users'
        return None, error


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a loop running after a callback raises `SystemExit`. `KeyboardInterrupt` (Ctrl-C) ends it."""
    run_forever, stop = loop.run_forever, loop.stop
    is_stopped = False

    def stop_noted() -> None:
        nonlocal is_stopped
        is_stopped = True
        stop()

    def run_on() -> None:
        nonlocal is_stopped
        is_stopped = False
        while True:
            try:
                return run_forever()
            except SystemExit:
                logger.exception("A callback raised SystemExit; the process continues.")
                if is_stopped:
                    return None

    setattr(loop, "run_forever", run_on)  # noqa: B010 - a method of this object alone
    setattr(loop, "stop", stop_noted)  # noqa: B010
