"""The former path of the extension registry."""

from aipartnerupflow.core.extensions.executor_metadata import (
    get_all_executor_metadata,
    get_executor_metadata,
    validate_task_format,
)
from aipartnerupflow.core.extensions.hook import HookExtension
from aipartnerupflow.core.extensions.protocol import ExecutorFactory, ExecutorLike
from aipartnerupflow.core.extensions.registration import hook_register, register_extension, storage_register
from aipartnerupflow.core.extensions.storage import StorageBackend
from apflow.core import (
    Extension,
    ExtensionCategory,
    ExtensionRegistry,
    StorageExtension,
    TaskPostHook,
    TaskPreHook,
    executor_register,
    get_registry,
)

__all__ = [
    "ExecutorFactory",
    "ExecutorLike",
    "Extension",
    "ExtensionCategory",
    "ExtensionRegistry",
    "HookExtension",
    "StorageBackend",
    "StorageExtension",
    "TaskPostHook",
    "TaskPreHook",
    "executor_register",
    "get_all_executor_metadata",
    "get_executor_metadata",
    "get_registry",
    "hook_register",
    "register_extension",
    "storage_register",
    "validate_task_format",
]
