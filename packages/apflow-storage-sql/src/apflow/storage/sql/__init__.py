"""What the SQL stores of apflow share, and the class that adds columns to tasks.

`TaskModel` is imported on first use: it costs the import of SQLAlchemy's ORM, which no store needs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apflow.storage.sql.model import TaskModel

__all__ = ["TaskModel"]


def __getattr__(name: str) -> object:
    if name == "TaskModel":
        from apflow.storage.sql.model import TaskModel

        return TaskModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
