from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from apflow.core import TaskBuilder, flow, task
from apflow.core.authoring.root_description import with_description
from apflow.core.authoring.tree_schema import tree_schema
from apflow.core.errors import InvalidInputError, TreeInvalidError
from apflow.core.model.task import Task
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Transition
from apflow.core.store.memory import MemoryStore

LABEL = "Import of 2026-11-29"


@pytest.fixture
def service() -> TaskService:
    return TaskService(MemoryStore())


async def call(service: TaskService, name: str, **given: Any) -> Any:
    return await OPERATIONS[name].call(service, given)


async def tagged(service: TaskService, *tags: str, label: str | None = None) -> str:
    made = await service.create([{"name": "import", "label": label, "tags": list(tags)}])
    return str(made["id"])


async def test_a_task_keeps_its_label_and_each_tag_once(service: TaskService):
    task_id = await tagged(service, "nightly", "größe:xl", "nightly", label=LABEL)
    found = await service.get(task_id)
    assert (found["label"], found["tags"]) == (LABEL, ["nightly", "größe:xl"])
    bare = await service.get(await tagged(service))
    assert (bare["label"], bare["tags"]) == (None, [])


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ("nightly", "tags must be a list of strings"),
        ([""], "a tag is a string that is not empty"),
        ([1], "a tag is a string that is not empty"),
        (["a,b"], "commas"),
        (['a"b'], "double quotes"),
        (["a\\b"], "backslashes"),
        (["a\nb"], "control characters"),
        ([" a"], "spaces at the ends"),
        (["a" * 101], "it has 101 characters"),
        ([str(at) for at in range(51)], "there are 51 tags"),
    ],
)
async def test_a_tag_that_cannot_be_searched_is_refused(service: TaskService, tags: object, fault: str):
    with pytest.raises(TreeInvalidError) as refused:
        await service.create([{"name": "import", "tags": tags}])
    [violation] = refused.value.violations
    assert fault in violation
    assert await service.list() == []


async def test_a_label_is_text_of_at_most_255_characters(service: TaskService):
    for label in (["x"], "x" * 256):
        with pytest.raises(TreeInvalidError, match="label"):
            await service.create([{"name": "import", "label": label}])


async def test_lists_and_counts_are_filtered_by_all_of_some_tags_and_by_part_of_a_label(service: TaskService):
    both = await tagged(service, "nightly", "eu", label=LABEL)
    one = await tagged(service, "nightly")
    for given, ids in (
        ({"tags": ["nightly"]}, {both, one}),
        ({"tags": "eu, nightly"}, {both}),
        ({"tags": ["night"]}, set[str]()),
        ({"label": "2026-11"}, {both}),
        ({"label": "2026-12"}, set[str]()),
        ({"label": "Import", "tags": ["eu"]}, {both}),
    ):
        assert {each["id"] for each in await call(service, "tasks.list", **given)} == ids, given
        assert (await call(service, "tasks.count", **given))["total"] == len(ids), given


async def test_labels_and_tags_change_while_a_task_runs_and_are_removed(service: TaskService):
    task_id = await tagged(service, "old", label="old")
    await service.db.move(
        [Transition(task_id, task_id, {"status": "pending"}, {"status": "in_progress", "priority": 1})]
    )
    found = await call(service, "tasks.update", task_id=task_id, label="new", tags=["new"])
    assert (found["label"], found["tags"], found["status"]) == ("new", ["new"], "in_progress")
    found = await call(service, "tasks.update", task_id=task_id, label="", tags=[])
    assert (found["label"], found["tags"]) == (None, [])


async def test_a_copy_has_the_label_and_the_tags_unless_they_are_reset(service: TaskService):
    task_id = await tagged(service, "nightly", label=LABEL)
    copied = await service.copy(task_id)
    assert (copied["label"], copied["tags"]) == (LABEL, ["nightly"])
    [shown] = (await service.copy(task_id, save=False))["tasks"]
    assert (shown["label"], shown["tags"]) == (LABEL, ["nightly"])
    reset = await service.copy(task_id, reset_fields=["label", "tags"])
    assert (reset["label"], reset["tags"]) == (None, [])


def test_editors_accept_tags_and_refuse_what_creation_refuses():
    validator = Draft202012Validator(json.loads(json.dumps(tree_schema())))
    assert validator.is_valid([{"name": "a", "label": LABEL, "tags": ["nightly"]}])
    for tags in (["a,b"], [""], ["x" * 101], ["x"] * 51, "x"):
        assert not validator.is_valid([{"name": "a", "tags": tags}])


def test_tasks_do_not_share_their_tags():
    first, second = (Task(id=name, name=name, root_id=name) for name in "ab")
    first.tags.append("x")
    assert second.tags == []


@pytest.mark.parametrize(
    "tasks",
    [
        {"name": "import", "tags": ["eu"]},
        {"tasks": [{"name": "import", "tags": ["eu"]}]},
        [{"name": "import", "tags": ["eu"]}, {"name": "fetch", "parent_id": "import"}],
        [{"name": "import", "tags": ["eu"], "children": [{"name": "fetch"}]}],
        [{"name": "fetch", "parent_id": "import"}, {"name": "import", "tags": ["eu"], "label": "old"}],
    ],
)
async def test_each_operation_that_creates_a_tree_gives_its_root_a_label_and_more_tags(
    service: TaskService, tasks: Any
):
    given = {"tasks": tasks, "label": LABEL, "tags": ["nightly", "eu"]}
    created = await call(service, "tasks.create", **given)
    submitted = await call(service, "tasks.submit", **given)
    executed = await call(service, "tasks.execute", **given)
    schedule = await call(service, "schedules.create", **given, every="1h")
    started = await call(service, "schedules.trigger", schedule_id=schedule["id"])
    for root_id in (created["id"], submitted["id"], executed["root_task_id"], started["task_id"]):
        root, *others = [await service.get(each) for each in await ids_of(service, root_id)]
        assert (root["label"], root["tags"]) == (LABEL, ["eu", "nightly"])
        assert [(each["label"], each["tags"]) for each in others] == [(None, [])] * len(others)


async def ids_of(service: TaskService, root_id: str) -> list[str]:
    """Return the ids of a tree, the root first."""
    tasks = await service.db.tree(root_id)
    return sorted((task.id for task in tasks), key=lambda each: each != root_id)


async def test_a_label_without_tasks_is_refused_instead_of_ignored(service: TaskService):
    task_id = await tagged(service)
    with pytest.raises(InvalidInputError, match=r"tasks\.update"):
        await call(service, "tasks.execute", task_id=task_id, tags=["nightly"])


@pytest.mark.parametrize("tasks", [3, ["a"], [{"name": "import", "tags": "eu"}]])
def test_what_is_no_array_of_tasks_stays_what_it_is(tasks: Any):
    assert with_description(tasks, None, ["nightly"]) == tasks


def test_flows_and_tasks_of_functions_have_labels_and_tags():
    @task
    def fetch() -> int:
        return 1

    @flow(label=LABEL, tags=["nightly"])
    def load() -> Any:
        return fetch.options(label="of one", tags=["net"])()

    root, first = load.build().to_array()
    assert (root["label"], root["tags"]) == (LABEL, ["nightly"])
    assert (first["label"], first["tags"]) == ("of one", ["net"])
    changed = load.options(tags=["weekly"]).build().to_array()[0]
    assert (changed["name"], changed["label"], changed["tags"]) == ("load", LABEL, ["weekly"])
    built = TaskBuilder("load", label=LABEL, tags=["nightly"]).to_array()
    assert built == [{"name": "load", "label": LABEL, "tags": ["nightly"]}]
