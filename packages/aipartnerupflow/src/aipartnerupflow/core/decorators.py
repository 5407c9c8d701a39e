"""The former path of what registers executors and hooks."""

from apflow.core import (
    executor_register,
    get_task_model_class,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
    set_task_model_class,
)

__all__ = [
    "executor_register",
    "get_task_model_class",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_task_model_class",
]
