"""`TaskModel`: the table of tasks as a declarative class. Subclass it to add custom columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import JSON, Column, DateTime, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import registry
from sqlalchemy.schema import ColumnDefault

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.storage.sql.columns import BASE, TASKS, Kind, TaskColumn
from apflow.storage.sql.tables import tasks

_BASE_NAMES = frozenset({"row_number", *(column.name for column in BASE)})


@registry().mapped
class TaskModel:
    """A row of the table of tasks.

    ```python
    class ProjectTask(TaskModel):
        __tablename__ = "apflow_tasks"
        project_id = Column(String(255), nullable=True)

    set_task_model_class(ProjectTask)
    ```

    A default must be a constant; an index or a constraint on an added column is not made.
    """

    __table__: ClassVar[Any] = tasks.to_metadata(MetaData())

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        table_name = cls.__dict__.get("__tablename__", TASKS)
        if table_name != TASKS:
            raise InvalidInputError(f"{cls.__name__}: columns are added to {TASKS!r}, not to {table_name!r}.")
        # Mapped to a separate table of that name, in a separate registry: the same class may be defined
        # again, as a notebook does, and other classes may add other columns.
        inherited: Table = cls.__table__
        declared: dict[str, Any] = {
            column.name: Column(column.type, column.default, primary_key=column.primary_key)
            for column in inherited.columns
            if column.name not in cls.__dict__
        }
        declared |= {"__tablename__": TASKS, "__mapper_args__": {"concrete": True}}
        for name, value in declared.items():
            setattr(cls, name, value)
        registry().map_declaratively(cls)

    @classmethod
    def custom_fields(cls) -> Mapping[str, Json]:
        """Return the default of each added column, by name."""
        return {column.name: column.default for column in cls.custom_columns()}

    @classmethod
    def custom_columns(cls) -> tuple[TaskColumn, ...]:
        """Return the added columns as the stores use them."""
        table: Table = cls.__table__
        return tuple(_custom(cls, column) for column in table.columns if column.name not in _BASE_NAMES)


def _custom(model: type, column: Column[Any]) -> TaskColumn:
    default = column.default
    if default is not None and not (isinstance(default, ColumnDefault) and default.is_scalar):
        raise InvalidInputError(f"{model.__name__}.{column.name}: the default must be a constant.")
    return TaskColumn(
        column.name,
        _sql_type(column),
        _kind(column),
        is_custom=True,
        default=default.arg if isinstance(default, ColumnDefault) else None,
    )


def _kind(column: Column[Any]) -> Kind:
    if isinstance(column.type, JSON):
        return Kind.JSON
    return Kind.TIME if isinstance(column.type, DateTime) else Kind.PLAIN


def _sql_type(column: Column[Any]) -> str:
    if isinstance(column.type, JSON):
        return "VARCHAR"
    if isinstance(column.type, DateTime):
        return "TIMESTAMP"
    return column.type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
