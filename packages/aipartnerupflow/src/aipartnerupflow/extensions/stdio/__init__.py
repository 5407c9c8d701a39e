"""The former path of the executors of this machine: programs, and its figures."""

from apflow.executor.command import CommandExecutor
from apflow.executor.system_info import SystemInfoExecutor

__all__ = ["CommandExecutor", "SystemInfoExecutor"]
