"""The former switches of a process. Each accepts what apflow always does, and refuses what it never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from apflow.core import set_task_model_class
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.hooks import OfExecutor, clear_hooks, register_post_hook, register_pre_hook

__all__ = [
    "add_executor_hook",
    "clear_config",
    "get_require_existing_tasks",
    "get_use_task_creator",
    "set_require_existing_tasks",
    "set_use_task_creator",
]


def add_executor_hook(
    executor_id: str, hook_type: Literal["pre_hook", "post_hook"], hook: Callable[..., Any]
) -> None:
    """Call a hook for the tasks of one executor only.

    Args:
        executor_id: the executor.
        hook_type: "pre_hook" calls `hook(task)` before each task, "post_hook" calls
            `hook(task, inputs, result)` after it.
        hook: a function, which may be a coroutine function.

    Raises:
        InvalidInputError: there is no such type, or the hook cannot be called.
    """
    if not callable(hook):
        raise InvalidInputError(f"A hook must be callable, not a {type(hook).__name__}.")
    kept = OfExecutor(executor_id, hook)
    if hook_type == "pre_hook":
        register_pre_hook(kept)
    elif hook_type == "post_hook":
        register_post_hook(kept)
    else:
        raise InvalidInputError(f'hook_type is "pre_hook" or "post_hook", not {hook_type!r}.')


def clear_config() -> None:
    """Forget every registered hook, and the class of custom columns."""
    clear_hooks()
    set_task_model_class(None)


def set_use_task_creator(value: bool) -> None:
    """Accept true: arrays are always checked and created by `TaskCreator`.

    Raises:
        InvalidInputError: the value is false.
    """
    if not value:
        raise InvalidInputError(
            "set_use_task_creator(False) is not possible: TaskCreator checks every array before anything is "
            "stored. Leave the call out."
        )


def get_use_task_creator() -> bool:
    """Return true: arrays are always checked and created by `TaskCreator`."""
    return True


def set_require_existing_tasks(value: bool) -> None:
    """Accept false: `execute_tasks` always creates the tasks that an array describes.

    Raises:
        InvalidInputError: the value is true.
    """
    if value:
        raise InvalidInputError(
            "set_require_existing_tasks(True) is not possible: execute_tasks() creates what an array "
            "describes. Run stored tasks by TaskExecutor().execute_task_by_id(task_id)."
        )


def get_require_existing_tasks() -> bool:
    """Return false: `execute_tasks` always creates the tasks that an array describes."""
    return False
