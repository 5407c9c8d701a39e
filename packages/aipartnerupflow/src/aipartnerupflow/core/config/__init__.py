"""The former path of what programs configure for the whole process."""

from aipartnerupflow.core.config.registry import (
    add_executor_hook,
    clear_config,
    get_require_existing_tasks,
    get_use_task_creator,
    set_require_existing_tasks,
    set_use_task_creator,
)
from apflow.core import (
    get_task_model_class,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
    set_task_model_class,
)
from apflow.core.extensions.hooks import get_post_hooks, get_pre_hooks, get_task_tree_hooks

__all__ = [
    "add_executor_hook",
    "clear_config",
    "get_post_hooks",
    "get_pre_hooks",
    "get_require_existing_tasks",
    "get_task_model_class",
    "get_task_tree_hooks",
    "get_use_task_creator",
    "register_post_hook",
    "register_pre_hook",
    "register_task_tree_hook",
    "set_require_existing_tasks",
    "set_task_model_class",
    "set_use_task_creator",
]
