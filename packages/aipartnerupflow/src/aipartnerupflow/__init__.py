"""The former name of apflow: the imports of older documents and programs, served by `apflow.core`.

Nothing is defined here. Every name is the very object of `apflow.core`, imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apflow.core import (
        BaseTask,
        ExecutableTask,
        Extension,
        ExtensionCategory,
        ExtensionRegistry,
        StorageExtension,
        TaskBuilder,
        TaskCreator,
        TaskExecutor,
        TaskManager,
        TaskPostHook,
        TaskPreHook,
        TaskRepository,
        TaskStatus,
        TaskTreeNode,
        Tool,
        create_session,
        executor_register,
        get_default_session,
        get_registry,
        get_task_model_class,
        register_post_hook,
        register_pre_hook,
        register_task_tree_hook,
        set_task_model_class,
    )

__all__ = [
    "BaseTask",
    "ExecutableTask",
    "Extension",
    "ExtensionCategory",
    "ExtensionRegistry",
    "StorageExtension",
    "TaskBuilder",
    "TaskCreator",
    "TaskExecutor",
    "TaskManager",
    "TaskPostHook",
    "TaskPreHook",
    "TaskRepository",
    "TaskStatus",
    "TaskTreeNode",
    "Tool",
    "create_session",
    "executor_register",
    "get_default_session",
    "get_registry",
    "get_task_model_class",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_task_model_class",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("apflow.core"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
