"""The former path of what registers executors, hooks, stores and tools."""

from aipartnerupflow.core.extensions.registration import hook_register, storage_register, task_model_register
from apflow.core import (
    executor_register,
    get_task_model_class,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
    set_task_model_class,
)
from apflow.core.extensions.hooks import get_task_tree_hooks
from apflow.core.extensions.tools import tool_register

__all__ = [
    "executor_register",
    "get_task_model_class",
    "get_task_tree_hooks",
    "hook_register",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_task_model_class",
    "storage_register",
    "task_model_register",
    "tool_register",
]
