"""The executor `system_info_executor`: figures of the machine that runs the task."""

from apflow.executor.system_info.executor import SystemInfoExecutor

__all__ = ["SystemInfoExecutor"]
