"""The former path of `executor_register`."""

from apflow.core import executor_register

__all__ = ["executor_register"]
