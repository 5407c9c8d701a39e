"""One store per URL and process."""

import asyncio
from collections.abc import Iterator

import pytest

from apflow.core.errors import InvalidInputError, StoreError
from apflow.core.model.task import Task
from apflow.core.store.base import Change, TaskQuery
from apflow.core.store.memory import MemoryStore
from apflow.core.store.session import close_stores, create_session, set_task_model_class


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    close_stores()
    yield
    close_stores()
    set_task_model_class(None)


def test_one_url_gives_one_store():
    assert create_session("memory://a") is create_session(connection_string="memory://a")
    assert create_session("memory://a") is not create_session("memory://b")


async def test_a_closed_store_is_not_given_out_again():
    store = create_session("memory://a")
    await store.close()
    assert create_session("memory://a") is not store
    with pytest.raises(StoreError, match="closed"):
        await store.get(["x"])


def test_a_store_lives_through_several_event_loops():
    store = create_session("memory://a")
    asyncio.run(store.add([Task(id="t", name="t", root_id="t")]))
    assert list(asyncio.run(store.get(["t"]))) == ["t"]


@pytest.mark.parametrize("url", ["apflow.duckdb", "", "://x"])
def test_a_url_without_a_scheme_is_refused(url: str):
    with pytest.raises(InvalidInputError, match="not a valid database URL"):
        create_session(url or "?")


def test_an_unknown_scheme_is_rejected_without_showing_the_password():
    with pytest.raises(InvalidInputError, match="No storage for oracle") as caught:
        create_session("oracle://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_url_and_connection_string_that_differ_are_refused():
    with pytest.raises(InvalidInputError, match="not several"):
        create_session("memory://a", connection_string="memory://b")


class WithProject:
    """A class that adds columns."""

    @classmethod
    def custom_fields(cls) -> dict[str, object]:
        return {"project_id": None, "level": 2}


async def test_custom_columns_have_defaults_are_found_and_are_readable():
    store = MemoryStore()
    await store.add([Task(id="old", name="old", root_id="old")])
    set_task_model_class(WithProject)
    await store.add([Task(id="new", name="new", root_id="new", extra={"project_id": "p"})])
    tasks = await store.get(["old", "new"])
    assert (tasks["new"].project_id, tasks["new"].level) == ("p", 2)
    assert tasks["old"].to_dict()["level"] == 2
    assert [task.id for task in await store.find(TaskQuery(custom={"project_id": "p"}))] == ["new"]


def test_custom_columns_are_attributes_for_as_long_as_the_class_is_chosen():
    set_task_model_class(WithProject)
    set_task_model_class(WithProject)  # the same names again hide nothing
    task = Task(id="t", name="t", root_id="t", extra={"level": 3})
    assert (task.level, task.copy().level) == (3, 3)
    with pytest.raises(AttributeError, match="'project_id'"):
        _ = task.project_id
    set_task_model_class(None)
    with pytest.raises(AttributeError):
        _ = task.level
    assert task.extra == {"level": 3}


async def test_an_unknown_custom_field_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="'colour'"):
        await MemoryStore().write(Change(add=[Task(id="t", name="t", root_id="t", extra={"colour": "red"})]))


def test_a_custom_column_cannot_hide_a_field_of_tasks():
    class Hiding:
        @classmethod
        def custom_fields(cls) -> dict[str, object]:
            return {"status": "x"}

    with pytest.raises(InvalidInputError, match="'status'"):
        set_task_model_class(Hiding)
