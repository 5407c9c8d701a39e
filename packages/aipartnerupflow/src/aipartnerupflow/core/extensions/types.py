"""The former path of the extension categories and the types of hooks."""

from apflow.core import ExtensionCategory, TaskPostHook, TaskPreHook

__all__ = ["ExtensionCategory", "TaskPostHook", "TaskPreHook"]
