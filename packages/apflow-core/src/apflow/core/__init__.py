"""The core of apflow: what a task is, and the engine that runs trees of them.

Every name below is imported on first use (PEP 562), so that `import apflow.core` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apflow.core.authoring.creator import TaskCreator
    from apflow.core.authoring.repository import TaskRepository
    from apflow.core.builder import TaskBuilder
    from apflow.core.engine.call_server import CallServer
    from apflow.core.engine.recovery import recover
    from apflow.core.engine.submit import submit
    from apflow.core.engine.worker import Worker
    from apflow.core.errors import ApflowError
    from apflow.core.events.subscription import Subscription
    from apflow.core.extensions.context import TaskContext, get_task_context
    from apflow.core.extensions.executor import BaseTask, ExecutableTask
    from apflow.core.extensions.executor_call import ExecutorCall
    from apflow.core.extensions.hooks import (
        TaskPostHook,
        TaskPreHook,
        clear_hooks,
        register_post_hook,
        register_pre_hook,
        register_task_tree_hook,
    )
    from apflow.core.extensions.model_account import ModelAnswer, ModelRequest
    from apflow.core.extensions.model_calls import model_call
    from apflow.core.extensions.registry import (
        Extension,
        ExtensionCategory,
        ExtensionRegistry,
        StorageExtension,
        executor_register,
        get_registry,
    )
    from apflow.core.extensions.runner import LocalRunner, Runner
    from apflow.core.extensions.running_call import run_child, run_child_sync
    from apflow.core.extensions.tools import Tool
    from apflow.core.flows.flow import Flow, FlowTree, flow
    from apflow.core.flows.outcome import FlowOutcome
    from apflow.core.flows.running import run_flow, run_sync
    from apflow.core.flows.task_function import AsyncTaskFunction, TaskFunction, task
    from apflow.core.manager import TaskManager
    from apflow.core.model.custom_columns import get_task_model_class, set_task_model_class
    from apflow.core.model.event import EventType, TaskEvent
    from apflow.core.model.results import RunOutcome
    from apflow.core.model.status import TaskStatus
    from apflow.core.model.task import Dependency, Policy, Retry, Task
    from apflow.core.model.tree import TaskTreeNode
    from apflow.core.model.usage import ModelUsage
    from apflow.core.service.task_service import TaskService
    from apflow.core.settings import Settings, get_settings
    from apflow.core.store.base import Capabilities, Change, Move, TaskQuery, TaskStore, Transition
    from apflow.core.store.memory import MemoryStore
    from apflow.core.store.session import create_session, get_default_session
    from apflow.core.task_executor import TaskExecutor

_MODULES = {
    "apflow.core.builder": ("TaskBuilder",),
    "apflow.core.authoring.creator": ("TaskCreator",),
    "apflow.core.errors": ("ApflowError",),
    "apflow.core.events.subscription": ("Subscription",),
    "apflow.core.model.event": ("EventType", "TaskEvent"),
    "apflow.core.extensions.context": ("TaskContext", "get_task_context"),
    "apflow.core.extensions.executor": ("BaseTask", "ExecutableTask"),
    "apflow.core.extensions.model_account": ("ModelAnswer", "ModelRequest"),
    "apflow.core.extensions.model_calls": ("model_call",),
    "apflow.core.model.usage": ("ModelUsage",),
    "apflow.core.extensions.registry": (
        "Extension",
        "ExtensionCategory",
        "ExtensionRegistry",
        "StorageExtension",
        "executor_register",
        "get_registry",
    ),
    "apflow.core.extensions.hooks": (
        "TaskPostHook",
        "TaskPreHook",
        "clear_hooks",
        "register_post_hook",
        "register_pre_hook",
        "register_task_tree_hook",
    ),
    "apflow.core.flows.flow": ("Flow", "FlowTree", "flow"),
    "apflow.core.flows.outcome": ("FlowOutcome",),
    "apflow.core.flows.running": ("run_flow", "run_sync"),
    "apflow.core.flows.task_function": ("AsyncTaskFunction", "TaskFunction", "task"),
    "apflow.core.manager": ("TaskManager",),
    "apflow.core.store.memory": ("MemoryStore",),
    "apflow.core.engine.recovery": ("recover",),
    "apflow.core.authoring.repository": ("TaskRepository",),
    "apflow.core.engine.call_server": ("CallServer",),
    "apflow.core.extensions.executor_call": ("ExecutorCall",),
    "apflow.core.extensions.runner": ("LocalRunner", "Runner"),
    "apflow.core.extensions.running_call": ("run_child", "run_child_sync"),
    "apflow.core.store.session": ("create_session", "get_default_session"),
    "apflow.core.settings": ("Settings", "get_settings"),
    "apflow.core.model.results": ("RunOutcome",),
    "apflow.core.model.status": ("TaskStatus",),
    "apflow.core.service.task_service": ("TaskService",),
    "apflow.core.store.base": ("Capabilities", "Change", "Move", "TaskQuery", "TaskStore", "Transition"),
    "apflow.core.model.task": ("Dependency", "Policy", "Retry", "Task"),
    "apflow.core.task_executor": ("TaskExecutor",),
    "apflow.core.model.custom_columns": ("get_task_model_class", "set_task_model_class"),
    "apflow.core.extensions.tools": ("Tool",),
    "apflow.core.model.tree": ("TaskTreeNode",),
    "apflow.core.engine.submit": ("submit",),
    "apflow.core.engine.worker": ("Worker",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ApflowError",
    "AsyncTaskFunction",
    "BaseTask",
    "CallServer",
    "Capabilities",
    "Change",
    "Dependency",
    "EventType",
    "ExecutableTask",
    "ExecutorCall",
    "Extension",
    "ExtensionCategory",
    "ExtensionRegistry",
    "Flow",
    "FlowOutcome",
    "FlowTree",
    "LocalRunner",
    "MemoryStore",
    "ModelAnswer",
    "ModelRequest",
    "ModelUsage",
    "Move",
    "Policy",
    "Retry",
    "RunOutcome",
    "Runner",
    "Settings",
    "StorageExtension",
    "Subscription",
    "Task",
    "TaskBuilder",
    "TaskContext",
    "TaskCreator",
    "TaskEvent",
    "TaskExecutor",
    "TaskFunction",
    "TaskManager",
    "TaskPostHook",
    "TaskPreHook",
    "TaskQuery",
    "TaskRepository",
    "TaskService",
    "TaskStatus",
    "TaskStore",
    "TaskTreeNode",
    "Tool",
    "Transition",
    "Worker",
    "clear_hooks",
    "create_session",
    "executor_register",
    "flow",
    "get_default_session",
    "get_registry",
    "get_settings",
    "get_task_context",
    "get_task_model_class",
    "model_call",
    "recover",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "run_child",
    "run_child_sync",
    "run_flow",
    "run_sync",
    "set_task_model_class",
    "submit",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
