"""The core of apflow: what a task is, and the engine that runs trees of them.

Every name below is imported on first use (PEP 562), so that `import apflow.core` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apflow.core.builder import TaskBuilder
    from apflow.core.creator import TaskCreator
    from apflow.core.errors import ApflowError
    from apflow.core.eventbus import Subscription
    from apflow.core.events import EventType, TaskEvent
    from apflow.core.executor import BaseTask, ExecutableTask
    from apflow.core.extensions import (
        Extension,
        ExtensionCategory,
        ExtensionRegistry,
        StorageExtension,
        executor_register,
        get_registry,
    )
    from apflow.core.hooks import (
        TaskPostHook,
        TaskPreHook,
        clear_hooks,
        register_post_hook,
        register_pre_hook,
        register_task_tree_hook,
    )
    from apflow.core.manager import TaskManager
    from apflow.core.memory import MemoryStore
    from apflow.core.recovery import recover
    from apflow.core.repository import TaskRepository
    from apflow.core.runner import LocalRunner, Runner
    from apflow.core.session import create_session, get_default_session
    from apflow.core.settings import Settings, get_settings
    from apflow.core.states import TaskStatus
    from apflow.core.store import Capabilities, Change, Move, TaskQuery, TaskStore
    from apflow.core.submitting import submit
    from apflow.core.task import Dependency, Policy, Retry, Task
    from apflow.core.task_executor import TaskExecutor
    from apflow.core.taskmodel import get_task_model_class, set_task_model_class
    from apflow.core.tools import Tool
    from apflow.core.tree import TaskTreeNode
    from apflow.core.worker import Worker

_MODULES = {
    "apflow.core.builder": ("TaskBuilder",),
    "apflow.core.creator": ("TaskCreator",),
    "apflow.core.errors": ("ApflowError",),
    "apflow.core.eventbus": ("Subscription",),
    "apflow.core.events": ("EventType", "TaskEvent"),
    "apflow.core.executor": ("BaseTask", "ExecutableTask"),
    "apflow.core.extensions": (
        "Extension",
        "ExtensionCategory",
        "ExtensionRegistry",
        "StorageExtension",
        "executor_register",
        "get_registry",
    ),
    "apflow.core.hooks": (
        "TaskPostHook",
        "TaskPreHook",
        "clear_hooks",
        "register_post_hook",
        "register_pre_hook",
        "register_task_tree_hook",
    ),
    "apflow.core.manager": ("TaskManager",),
    "apflow.core.memory": ("MemoryStore",),
    "apflow.core.recovery": ("recover",),
    "apflow.core.repository": ("TaskRepository",),
    "apflow.core.runner": ("LocalRunner", "Runner"),
    "apflow.core.session": ("create_session", "get_default_session"),
    "apflow.core.settings": ("Settings", "get_settings"),
    "apflow.core.states": ("TaskStatus",),
    "apflow.core.store": ("Capabilities", "Change", "Move", "TaskQuery", "TaskStore"),
    "apflow.core.task": ("Dependency", "Policy", "Retry", "Task"),
    "apflow.core.task_executor": ("TaskExecutor",),
    "apflow.core.taskmodel": ("get_task_model_class", "set_task_model_class"),
    "apflow.core.tools": ("Tool",),
    "apflow.core.tree": ("TaskTreeNode",),
    "apflow.core.submitting": ("submit",),
    "apflow.core.worker": ("Worker",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ApflowError",
    "BaseTask",
    "Capabilities",
    "Change",
    "Dependency",
    "EventType",
    "ExecutableTask",
    "Extension",
    "ExtensionCategory",
    "ExtensionRegistry",
    "LocalRunner",
    "MemoryStore",
    "Move",
    "Policy",
    "Retry",
    "Runner",
    "Settings",
    "StorageExtension",
    "Subscription",
    "Task",
    "TaskBuilder",
    "TaskCreator",
    "TaskEvent",
    "TaskExecutor",
    "TaskManager",
    "TaskPostHook",
    "TaskPreHook",
    "TaskQuery",
    "TaskRepository",
    "TaskStatus",
    "TaskStore",
    "TaskTreeNode",
    "Tool",
    "Worker",
    "clear_hooks",
    "create_session",
    "executor_register",
    "get_default_session",
    "get_registry",
    "get_settings",
    "get_task_model_class",
    "recover",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_task_model_class",
    "submit",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
