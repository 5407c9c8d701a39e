"""Custom columns in a DuckDB file."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import JSON, Boolean, Column, DateTime, Integer, String

from apflow.core.errors import InvalidInputError
from apflow.core.store.base import TaskQuery, Transition
from apflow.core.store.session import set_task_model_class
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.sql import TaskModel
from apflow.testing.building import a_task

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class ProjectTask(TaskModel):
    """A project, as the guide shows it."""

    __tablename__ = "apflow_tasks"
    project_id = Column(String(255), nullable=True, index=True)
    priority_level = Column(Integer, default=2)


class ManyKinds(TaskModel):
    """Columns of other types."""

    __tablename__ = "apflow_tasks"
    labels = Column(JSON)
    due = Column(DateTime)
    is_urgent = Column(Boolean, default=False)


@pytest.fixture(autouse=True)
def no_model() -> Iterator[None]:
    set_task_model_class(None)
    yield
    set_task_model_class(None)


async def test_columns_are_added_when_the_class_is_chosen_also_to_an_open_store(tmp_path: Path):
    store = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    await store.add([a_task("old")])
    set_task_model_class(ProjectTask)
    assert [task.id for task in await store.find(TaskQuery(custom={"priority_level": 2}))] == ["old"]
    await store.add([a_task("new", extra={"project_id": "p", "priority_level": 1})])
    tasks = await store.get(["old", "new"])
    assert (tasks["old"].project_id, tasks["old"].priority_level) == (None, 2)
    assert (tasks["new"].project_id, tasks["new"].priority_level) == ("p", 1)
    assert tasks["new"].to_dict()["project_id"] == "p"
    assert [task.id for task in await store.find(TaskQuery(custom={"project_id": None}))] == ["old"]
    assert sum((await store.count(TaskQuery(custom={"project_id": "p"}))).values()) == 1
    await store.close()


async def test_columns_are_there_when_the_file_is_opened_again(tmp_path: Path):
    set_task_model_class(ProjectTask)
    store = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    await store.add([a_task("r", extra={"project_id": "p"})])
    await store.close()
    again = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    assert (await again.get(["r"]))["r"].project_id == "p"
    set_task_model_class(None)
    assert (await again.get(["r"]))["r"].extra == {}
    await again.close()


async def test_custom_columns_move_like_others(tmp_path: Path):
    set_task_model_class(ManyKinds)
    store = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    await store.add([a_task("r"), a_task("s", extra={"labels": [1], "due": NOON, "is_urgent": True})])
    sets = {"labels": {"a": None}, "due": NOON, "is_urgent": True}
    assert await store.move([Transition("r", "r", {"is_urgent": False, "due": None}, sets)]) == [()]
    assert await store.move([Transition("r", "r", {"is_urgent": False}, {"labels": None})]) == [None]
    for task in (await store.get(["r", "s"])).values():
        assert (task.due, task.is_urgent) == (NOON, True)
    assert (await store.get(["r"]))["r"].labels == {"a": None}
    await store.close()


async def test_writers_that_are_busy_take_no_harm_when_columns_are_added(tmp_path: Path):
    store = DuckDBStore(f"duckdb:///{tmp_path}/tasks.duckdb")
    await store.add([a_task("first")])
    writes = [asyncio.ensure_future(store.add([a_task(f"t{each}")])) for each in range(20)]
    await asyncio.sleep(0)
    set_task_model_class(ProjectTask)
    await asyncio.gather(*writes, store.count(TaskQuery()), store.find(TaskQuery()))
    assert sum((await store.count(TaskQuery(custom={"priority_level": 2}))).values()) == 21
    await store.close()


def test_a_default_must_be_a_constant():
    class Computed(TaskModel):
        __tablename__ = "apflow_tasks"
        token = Column(String, default=lambda: "x")

    with pytest.raises(InvalidInputError, match="constant"):
        set_task_model_class(Computed)
