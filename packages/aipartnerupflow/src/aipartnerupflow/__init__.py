"""The former name of apflow: the imports of older documents and programs, served by `apflow.core`.

Every name is imported on first use (PEP 562), so that `import aipartnerupflow` costs next to nothing. Most
are the very objects of `apflow.core`; the others are small functions over it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aipartnerupflow.core.config.registry import (
        add_executor_hook,
        clear_config,
        get_require_existing_tasks,
        get_use_task_creator,
        set_require_existing_tasks,
        set_use_task_creator,
    )
    from aipartnerupflow.core.extensions.registration import (
        hook_register,
        register_extension,
        storage_register,
        task_model_register,
    )
    from aipartnerupflow.core.storage.factory import create_storage, get_default_storage
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
    from apflow.core.extensions.hooks import get_post_hooks, get_pre_hooks, get_task_tree_hooks
    from apflow.core.extensions.tools import tool_register
    from apflow.core.manager import StreamingCallbacks

    __version__: str

_MODULES = {
    "apflow.core": (
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
    ),
    "apflow.core.extensions.hooks": ("get_post_hooks", "get_pre_hooks", "get_task_tree_hooks"),
    "apflow.core.extensions.tools": ("tool_register",),
    "apflow.core.manager": ("StreamingCallbacks",),
    "aipartnerupflow.core.config.registry": (
        "add_executor_hook",
        "clear_config",
        "get_require_existing_tasks",
        "get_use_task_creator",
        "set_require_existing_tasks",
        "set_use_task_creator",
    ),
    "aipartnerupflow.core.extensions.registration": (
        "hook_register",
        "register_extension",
        "storage_register",
        "task_model_register",
    ),
    "aipartnerupflow.core.storage.factory": ("create_storage", "get_default_storage"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BaseTask",
    "ExecutableTask",
    "Extension",
    "ExtensionCategory",
    "ExtensionRegistry",
    "StorageExtension",
    "StreamingCallbacks",
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
    "__version__",
    "add_executor_hook",
    "clear_config",
    "create_session",
    "create_storage",
    "executor_register",
    "get_default_session",
    "get_default_storage",
    "get_post_hooks",
    "get_pre_hooks",
    "get_registry",
    "get_require_existing_tasks",
    "get_task_model_class",
    "get_task_tree_hooks",
    "get_use_task_creator",
    "hook_register",
    "register_extension",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_require_existing_tasks",
    "set_task_model_class",
    "set_use_task_creator",
    "storage_register",
    "task_model_register",
    "tool_register",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from apflow.core import plugins

        return plugins.version("aipartnerupflow")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
