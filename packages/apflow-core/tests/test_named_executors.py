"""Executors that a setting names: a package makes one for each entry."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from apflow.core import MemoryStore, TaskCreator, TaskManager
from apflow.core.errors import PluginLoadError, SettingsError
from apflow.core.extensions.description import describe_executor, describe_executors
from apflow.core.extensions.named import GROUP
from apflow.core.extensions.registry import executor_ids, executor_is_known, get_executor
from apflow.core.settings import reset_settings

Install = Callable[..., None]

# Any setting that maps names to strings will do.
ENTRY = "plugins_prefer = makes_named:make"
CODE = """
from apflow.core import BaseTask

class Named(BaseTask):
    id = "named"
    value = ""

    async def execute(self, inputs):
        return {"name": self.id, "value": self.value}

def make(name, value):
    made = Named()
    made.id, made.value, made.description = name, value, f"Returns {value}."
    return made
"""


@pytest.fixture
def named(install: Install, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what sets the setting."""
    install("makes-named", ENTRY, CODE, group=GROUP)

    def name(entries: str) -> None:
        monkeypatch.setenv("APFLOW_PLUGINS_PREFER", entries)
        reset_settings()

    return name


def test_the_names_are_known_without_an_import(named: Callable[[str], None]):
    named("north=one,south=two")
    assert executor_is_known("north")
    assert {"north", "south"} <= set(executor_ids())
    assert not executor_is_known("east")
    assert "makes_named" not in sys.modules


async def test_a_task_runs_the_executor_of_its_name(named: Callable[[str], None]):
    named("north=one,south=two")
    async with MemoryStore() as store:
        tasks = [{"name": "north"}, {"name": "other", "schemas": {"method": "south"}, "parent_id": "north"}]
        tree = await TaskCreator(store).create_task_tree_from_array(tasks)
        await TaskManager(store).distribute_task_tree(tree)
        results = {task.name: task.result for task in await store.tree(tree.task.id)}
    assert results == {
        "north": {"name": "north", "value": "one"},
        "other": {"name": "south", "value": "two"},
    }


def test_each_is_described_as_an_executor_of_its_package(named: Callable[[str], None]):
    named("north=one")
    shown = describe_executor("north")
    assert (shown["id"], shown["distribution"], shown["description"]) == (
        "north",
        "makes-named",
        "Returns one.",
    )
    assert shown["is_usable"]


def test_a_changed_setting_names_other_executors(named: Callable[[str], None]):
    named("north=one")
    first = get_executor("north")
    assert get_executor("north") is first
    named("north=three,west=four")
    assert get_executor("north").make({}).value == "three"  # type: ignore[attr-defined]
    assert executor_is_known("west")
    named("west=four")
    assert not executor_is_known("north")


def test_a_name_that_is_taken_or_not_usable_is_refused_and_listed(
    named: Callable[[str], None], install: Install
):
    install("has-taken", "taken = has_taken:Named", CODE)
    named("taken=one,:own=two")
    with pytest.raises(SettingsError, match="APFLOW_PLUGINS_PREFER names 'taken'"):
        get_executor("taken")
    with pytest.raises(SettingsError, match=r"':own'.*reserved"):
        get_executor(":own")
    shown = {each["id"]: each for each in describe_executors()}
    assert not shown["taken"]["is_usable"]
    assert "Rename" in shown["taken"]["problem"]
    assert not shown[":own"]["is_usable"]


def test_a_package_that_cannot_be_imported_is_reported(install: Install, monkeypatch: pytest.MonkeyPatch):
    install("makes-named", ENTRY, "import no_such_library", group=GROUP)
    monkeypatch.setenv("APFLOW_PLUGINS_PREFER", "north=unmade")
    reset_settings()
    with pytest.raises(PluginLoadError, match="no_such_library"):
        get_executor("north")
    assert not describe_executors_by_id()["north"]["is_usable"]


def describe_executors_by_id() -> dict[str, dict[str, object]]:
    return {each["id"]: each for each in describe_executors()}
