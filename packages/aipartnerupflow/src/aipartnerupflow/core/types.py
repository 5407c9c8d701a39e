"""The former path of the types that programs name."""

from apflow.core import TaskPostHook, TaskPreHook, TaskStatus, TaskTreeNode

__all__ = ["TaskPostHook", "TaskPreHook", "TaskStatus", "TaskTreeNode"]
