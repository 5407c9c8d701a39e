"""`TaskModel`, subclassed as the guide shows it."""

import subprocess
import sys

import pytest
from sqlalchemy import Column, Integer, String, select

from apflow.core.errors import InvalidInputError
from apflow.storage.sql import TaskModel
from apflow.storage.sql.columns import BASE, Kind, TaskColumn
from apflow.storage.sql.tables import tasks


class ProjectTaskModel(TaskModel):
    """Custom TaskModel with project and department fields"""

    __tablename__ = "apflow_tasks"

    project_id = Column(String(255), nullable=True, index=True)
    department = Column(String(100), nullable=True)
    priority_level = Column(Integer, default=2)


class OtherModel(TaskModel):
    __tablename__ = "apflow_tasks"
    colour = Column(String)


def test_a_class_tells_the_columns_that_it_adds_and_no_others():
    assert ProjectTaskModel.custom_fields() == {"project_id": None, "department": None, "priority_level": 2}
    assert OtherModel.custom_columns() == (TaskColumn("colour", "VARCHAR", Kind.PLAIN, is_custom=True),)
    assert TaskModel.custom_fields() == {}


def test_the_shared_table_does_not_change_by_it():
    assert [column.name for column in tasks.columns] == ["row_number", *(column.name for column in BASE)]


def test_a_model_is_a_mapped_class():
    text = str(select(ProjectTaskModel.project_id).where(ProjectTaskModel.status == "pending"))
    assert text.replace("\n", "") == (
        "SELECT apflow_tasks.project_id FROM apflow_tasks WHERE apflow_tasks.status = :status_1"
    )


def test_another_table_is_refused():
    with pytest.raises(InvalidInputError, match="apflow_tasks"):

        class Elsewhere(TaskModel):
            __tablename__ = "elsewhere"
            colour = Column(String)


def test_a_store_does_not_import_sqlalchemy():
    code = "import sys, apflow.storage.sql.queries; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_class_may_be_defined_again_and_be_built_upon():
    class ProjectTaskModel(TaskModel):
        __tablename__ = "apflow_tasks"
        project_id = Column(String(10))

    class Narrower(ProjectTaskModel):
        colour = Column(String)

    assert ProjectTaskModel.custom_fields() == {"project_id": None}
    assert Narrower.custom_fields() == {"colour": None, "project_id": None}
