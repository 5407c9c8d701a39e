"""Functions that users hang on the life of tasks and trees.

A hook never decides the fate of a task: one that raises, or takes too long, is logged by name and the run
continues. A hook that is not a coroutine function runs on the event loop, so it must be fast.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast, overload

from apflow.core import plugins
from apflow.core.concurrency.containment import (
    INSIST_SECONDS,
    call_contained,
    forget_cancellations,
    log_error,
    must_pass,
    read_attribute,
    run_apart,
)
from apflow.core.concurrency.eager_tasks import Abandonable
from apflow.core.concurrency.exit_fence import enter_code, guard
from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.model.task import Json, Task
from apflow.core.settings import get_settings

# Called with a copy of the task, whose `inputs` it may change.
TaskPreHook = Callable[[Task], Awaitable[object] | object]
# Called with the task as it ended, the inputs used, and the result.
TaskPostHook = Callable[[Task, dict[str, Json], Json], Awaitable[object] | object]
# Called with the root and, except for `on_tree_started`, the detail of the event: see TREE_EVENTS.
TaskTreeHook = Callable[..., Awaitable[object] | object]

IsEnded = Callable[[], bool]

AnyHook = TypeVar("AnyHook", bound=Callable[..., Any])

GROUP = "apflow.hooks"

# Event -> whether its hooks are given something beside the root: the tree, its status, or a message.
TREE_EVENTS: Mapping[str, bool] = {
    "on_tree_created": True,
    "on_tree_started": False,
    "on_tree_completed": True,
    "on_tree_failed": True,
    "on_tree_cancelled": True,
}

_log = logging.getLogger(__name__)
_pre_hooks: list[TaskPreHook] = []
_post_hooks: list[TaskPostHook] = []
_tree_hooks: dict[str, list[TaskTreeHook]] = {}


@dataclass(frozen=True)
class OfExecutor:
    """A hook that is called for the tasks of one executor only."""

    executor_id: str
    hook: Callable[..., Any]

    def __call__(self, task: Task, *more: Json) -> Any:
        """Call the hook if the executor runs the task."""
        return self.hook(task, *more) if task.executor == self.executor_id else None


@overload
def register_pre_hook(hook: AnyHook) -> AnyHook: ...
@overload
def register_pre_hook(hook: None = None) -> Callable[[AnyHook], AnyHook]: ...
def register_pre_hook(hook: Any = None) -> Any:
    """Call `hook(task)` before each task; what it changes in `task.inputs` is used.

    A decorator, with or without brackets.

    Raises:
        InvalidInputError: the hook cannot be called.
    """
    return register_pre_hook if hook is None else _kept(_pre_hooks, hook)


@overload
def register_post_hook(hook: AnyHook) -> AnyHook: ...
@overload
def register_post_hook(hook: None = None) -> Callable[[AnyHook], AnyHook]: ...
def register_post_hook(hook: Any = None) -> Any:
    """Call `hook(task, inputs, result)` after each task that ran, however it ended.

    A decorator, with or without brackets.

    Raises:
        InvalidInputError: the hook cannot be called.
    """
    return register_post_hook if hook is None else _kept(_post_hooks, hook)


@overload
def register_task_tree_hook(event: str, hook: AnyHook) -> AnyHook: ...
@overload
def register_task_tree_hook(event: str, hook: None = None) -> Callable[[AnyHook], AnyHook]: ...
def register_task_tree_hook(event: str, hook: Any = None) -> Any:
    """Call `hook` at an event of `TREE_EVENTS`. With the event alone, a decorator.

    Raises:
        InvalidInputError: there is no such event, or the hook cannot be called.
    """
    _check_tree_event(event)
    hooks = _tree_hooks.setdefault(event, [])
    return partial(_kept, hooks) if hook is None else _kept(hooks, hook)


def _check_tree_event(event: str) -> None:
    if event not in TREE_EVENTS:
        raise InvalidInputError(f"There is no tree event {event!r}. There are: {', '.join(TREE_EVENTS)}.")


def _kept(hooks: list[Any], hook: Any) -> Any:
    if not callable(hook):
        raise InvalidInputError(f"A hook must be callable, not a {type(hook).__name__}.")
    if hook not in hooks:
        hooks.append(hook)
    return hook


def get_pre_hooks() -> list[TaskPreHook]:
    """Return the registered hooks that are called before each task, in order."""
    return list(_pre_hooks)


def get_post_hooks() -> list[TaskPostHook]:
    """Return the registered hooks that are called after each task, in order."""
    return list(_post_hooks)


def get_task_tree_hooks(event: str) -> list[TaskTreeHook]:
    """Return the hooks that are registered for an event of `TREE_EVENTS`, in order.

    Raises:
        InvalidInputError: there is no such event.
    """
    _check_tree_event(event)
    return list(_tree_hooks.get(event, ()))


def clear_hooks() -> None:
    """Forget every registered hook."""
    _pre_hooks.clear()
    _post_hooks.clear()
    _tree_hooks.clear()


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one run, in the order in which they are called."""

    pre: tuple[TaskPreHook, ...]
    post: tuple[TaskPostHook, ...]
    tree: Mapping[str, tuple[TaskTreeHook, ...]]
    timeout: float
    grace: float = 5.0  # seconds that a hook has to end after its timeout

    @classmethod
    def current(
        cls,
        pre_hooks: Sequence[TaskPreHook] | None = None,
        post_hooks: Sequence[TaskPostHook] | None = None,
    ) -> Hooks:
        """Return the hooks registered now, those of the plugins that settings name, and the ones given.

        Raises:
            SettingsError: settings name a hook that is not installed.
            PluginError: it cannot be loaded.
        """
        settings = get_settings()
        for name in settings.hooks:
            _register_plugin(name)
        return cls(
            pre=tuple(dict.fromkeys([*_pre_hooks, *(pre_hooks or ())])),
            post=tuple(dict.fromkeys([*_post_hooks, *(post_hooks or ())])),
            tree={event: tuple(hooks) for event, hooks in _tree_hooks.items()},
            timeout=settings.hook_timeout,
            grace=settings.cancel_grace,
        )

    @property
    def has_pre(self) -> bool:
        """Whether there is a hook to call before a task."""
        return bool(self.pre)

    @property
    def has_post(self) -> bool:
        """Whether there is a hook to call after a task."""
        return bool(self.post)

    async def run_pre(self, task: Task, is_ended: IsEnded = lambda: True) -> None:
        """Call the pre-hooks with a copy of a task, which they may change.

        Args:
            is_ended: whether apflow has asked the caller to end: only then is a cancellation propagated.
        """
        for hook in self.pre:
            await self._call(is_ended, hook, task)

    async def run_post(
        self, task: Task, inputs: dict[str, Json], result: Json, is_ended: IsEnded = lambda: True
    ) -> None:
        """Call the post-hooks of a task that has ended. `is_ended`: as for `run_pre`."""
        for hook in self.post:
            await self._call(is_ended, hook, task, inputs, result)

    async def run_tree(self, event: str, root: Task, detail: object = None) -> None:
        """Call the hooks of a tree's event in a separate task, because this may be the caller's task."""
        hooks = self.tree.get(event, ())
        if not hooks:
            return
        arguments = (root, detail) if TREE_EVENTS[event] else (root,)

        async def call(is_ended: IsEnded) -> None:
            enter_code()
            for hook in hooks:
                await self._call(is_ended, hook, *arguments)

        guard(asyncio.get_running_loop())
        await run_apart(call, f"apflow:{event}:{root.id}")

    async def _call(self, is_ended: IsEnded, hook: Callable[..., Any], *arguments: object) -> None:
        current = asyncio.current_task()
        try:
            answer = hook(*arguments)
            if answer is not None and inspect.isawaitable(answer):
                coroutine = answer if inspect.iscoroutine(answer) else _awaited(answer)
                try:
                    waits_for = coroutine.send(None)
                except StopIteration:
                    pass  # most hooks never wait: the time limit is only set up for those that do
                else:
                    await self._wait(hook, Abandonable(coroutine, waits_for))
        except BaseException as error:
            if must_pass(error, current, is_ended):
                raise
            message = "Hook %s failed or took over %s s; the run continues."
            log_error(_log, message, name_of(hook), self.timeout, error=error)
        if current is not None and current.cancelling() and not is_ended():
            await forget_cancellations(current)

    async def _wait(self, hook: Callable[..., Any], waiting: Abandonable) -> None:
        """Wait for a hook; cancel it after the timeout, and abandon it after the grace period.

        Raises:
            TimeoutError: the hook took longer than its timeout.
        """
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        until = loop.time() + self.timeout + self.grace
        has_passed = False
        timer: asyncio.TimerHandle

        def end() -> None:
            nonlocal has_passed, timer
            has_passed = True
            left = until - loop.time()
            if left > 0:
                waiting.cancel()
                timer = loop.call_later(min(left, INSIST_SECONDS), end)
            else:
                _log.error("Hook %s ignores its cancellation; the run continues without it.", name_of(hook))
                waiting.abandon()

        timer = loop.call_later(self.timeout, end)
        try:
            await waiting
        except asyncio.CancelledError:
            if not has_passed or (current is not None and current.cancelling()):
                raise
        finally:
            timer.cancel()
        if has_passed:
            raise TimeoutError


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _register_plugin(name: str) -> None:
    """Load a hook plugin. If it does not register itself, its name or parameters decide its kind."""
    if not plugins.is_offered(GROUP, name):
        known = ", ".join(plugins.names(GROUP)) or "none"
        raise SettingsError(f"The setting hooks names {name!r}; the installed hooks are: {known}.")
    hook = cast("Callable[..., Any]", plugins.load(GROUP, name))
    on_trees = (each for hooks in _tree_hooks.values() for each in hooks)
    if hook in [*_pre_hooks, *_post_hooks, *on_trees]:
        return
    if getattr(hook, "__name__", name) in TREE_EVENTS:
        register_task_tree_hook(hook.__name__, hook)
    elif len(inspect.signature(hook).parameters) == 1:
        register_pre_hook(hook)
    else:
        register_post_hook(hook)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which the log speaks of a function of the user's."""
    function = function.hook if isinstance(function, OfExecutor) else function
    try:
        name = read_attribute(function, "__qualname__") or call_contained(lambda: repr(function))
        return f"{read_attribute(function, '__module__', '?')}.{name}"
    except Exception:  # noqa: BLE001 - the border to users' code
        return f"an object of {type(function).__module__}.{type(function).__qualname__}"
