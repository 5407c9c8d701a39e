"""The former path of `TaskModel`, to which programs add columns."""

from sqlalchemy.orm import DeclarativeBase

from apflow.core import TaskStatus
from apflow.storage.sql import TaskModel
from apflow.storage.sql.columns import TASKS as TASK_TABLE_NAME

__all__ = ["TASK_TABLE_NAME", "Base", "TaskModel", "TaskStatus"]


class Base(DeclarativeBase):
    """A declarative base whose `metadata` describes the table of tasks, which apflow makes by itself."""

    metadata = TaskModel.__table__.metadata
