"""The executors of `peers.marks`, for processes that import modules by a setting."""

from peers.marks import Marks, MarksOnce

from apflow.core import executor_register

executor_register(Marks)
executor_register(MarksOnce)
