"""Results by key, and how a tree prints."""

from __future__ import annotations

import copy
import json
import pickle
import re
from html.parser import HTMLParser

import pytest

from apflow.core.authoring.creator import TaskCreator
from apflow.core.builder import TaskBuilder
from apflow.core.errors import NoResultError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register
from apflow.core.manager import TaskManager
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TaskTreeNode
from apflow.core.payload.json_value import dumps
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor

HOSTILE = """<script>alert("1")</script> & 'x' `y` #quot; \\ \x1b[2J \n *end* %%{init: {}}%%"""


@executor_register()
class Price(BaseTask):
    """Returns a price, or fails."""

    id = "results_price"

    async def execute(self, inputs: dict[str, Json]) -> Json:
        if "price" not in inputs:
            raise ValueError("no pears today")
        return {"price": inputs["price"]}


@executor_register()
class Sum(BaseTask):
    """Adds the prices of two tasks, named by their keys."""

    id = "results_sum"

    async def execute(self, inputs: dict[str, Json]) -> Json:
        return inputs["apples"]["price"] + inputs["pears"]["price"]


def bill() -> TaskBuilder:
    return (
        TaskBuilder("bill")
        .add("apples", executor="results_price", inputs={"price": 2})
        .add("pears", executor="results_price")
    )


async def test_results_of_a_run_are_found_by_key():
    outcome = await bill().run(MemoryStore())
    assert outcome.results["apples"] == {"price": 2}
    assert dict(outcome.results) == {"apples": {"price": 2}}
    assert (outcome.results.get("pears"), len(outcome.results), "bill" in outcome.results) == (None, 1, False)


async def test_a_task_without_a_result_says_why():
    outcome = await bill().run(MemoryStore())
    with pytest.raises(NoResultError, match=r"Task 'pears' has no result: it is failed: .*no pears today"):
        outcome.results["pears"]
    with pytest.raises(KeyError, match="No task has the key 'plums'"):
        outcome.results["plums"]


async def test_executors_find_results_by_key_whatever_the_ids():
    array = [
        {"id": "bill", "name": "results_sum", "dependencies": ["apples", "pears"]},
        {"id": "apples", "name": "results_price", "parent_id": "bill", "inputs": {"price": 2}},
        {"id": "pears", "name": "results_price", "parent_id": "bill", "inputs": {"price": 3}},
    ]
    store = MemoryStore()
    for _ in range(2):  # the second time under new ids
        outcome = await TaskExecutor().execute_tasks(array, db_session=store)
        assert outcome["result"] == outcome.results["bill"] == 5
    copied = await TaskCreator(store).create_task_copy((await store.get(["bill"]))["bill"])
    await TaskManager(store).distribute_task_tree(copied)
    assert copied["result"] == 5


async def test_an_outcome_is_plain_json():
    outcome = await bill().run(MemoryStore())
    assert json.loads(json.dumps(outcome)) == json.loads(dumps(outcome)) == dict(outcome)
    assert outcome["status"] == "failed"
    for again in (pickle.loads(pickle.dumps(outcome)), copy.deepcopy(outcome)):
        assert again == outcome
        assert again.results == outcome.results == {"apples": {"price": 2}}


async def test_results_of_several_trees_are_found_by_path():
    array = [
        {"id": "one", "name": "results_price", "inputs": {"price": 1}},
        {"id": "two", "name": "results_price", "inputs": {"price": 2}},
        {"id": "three", "name": "results_price", "inputs": {"price": 3}, "parent_id": "two"},
    ]
    outcome = await TaskExecutor().execute_tasks(array, db_session=MemoryStore())
    assert {path: result["price"] for path, result in outcome.results.items()} == {
        "one/one": 1,
        "two/two": 2,
        "two/three": 3,
    }
    assert outcome["trees"][1].results["three"] == {"price": 3}


async def test_a_tree_answers_with_the_results_of_its_last_run():
    store = MemoryStore()
    node = await bill().create(store)
    assert dict(node.results) == {}
    await TaskManager(store).distribute_task_tree(node)
    assert dict(node.results) == {"apples": {"price": 2}}


async def test_a_tree_prints_names_keys_statuses_and_errors():
    store = MemoryStore()
    creator = TaskCreator(store)
    array = [
        {"id": "bill", "name": "sum of all"},
        {"id": "apples", "name": "results_price", "parent_id": "bill", "inputs": {"price": 2}},
        {"id": "crate", "name": "pears", "parent_id": "bill"},
        {"id": "pears", "name": "results_price", "parent_id": "crate"},
    ]
    await creator.create_task_tree_from_array(array)
    node = await creator.create_task_tree_from_array(array)  # under new ids
    await TaskManager(store).distribute_task_tree(node)
    lines = str(node).splitlines()
    assert lines[0].startswith("sum of all (bill)  failed: In this group task 'results_price' (pears, ")
    assert lines[1] == "├── results_price (apples)  completed"
    assert lines[2].startswith("└── pears (crate)  failed: ")
    assert lines[3] == "    └── results_price (pears)  failed: no pears today"
    assert node.task.id in repr(node)


def a_node(count: int = 1, **fields: Json) -> TaskTreeNode:
    root = Task(id="0", name="root", root_id="0")
    for name, value in fields.items():
        setattr(root, name, value)
    tasks = [root]
    tasks += [Task(id=str(at), name=f"task {at}", root_id="0", parent_id="0") for at in range(1, count)]
    return TaskTreeNode.build(tasks)


def test_what_is_shown_cannot_control_a_terminal_or_a_page():
    node = a_node(name=HOSTILE, key=HOSTILE, error=HOSTILE, status=TaskStatus.FAILED)
    assert "\x1b" not in str(node)
    assert len(str(node).splitlines()) == 1
    assert "<script" not in node._repr_html_()
    parsed = Tags()
    parsed.feed(node._repr_html_())
    assert (parsed.opened, parsed.open) == (["ul", "li", "b", "span"], [])
    label = re.fullmatch(r'    t0\["(.*)"\]:::failed', node.to_mermaid().splitlines()[1])
    assert label is not None
    assert not re.search(r'["<>`\\&*%{}]|#(?!\d+;)', label[1])
    assert '["1#46; x"]' in a_node(name="1. x", key="1. x").to_mermaid()
    assert '["#45; x"]' in a_node(name="- x", key="- x").to_mermaid()


class Tags(HTMLParser):
    """The tags of a page, and those that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("count", [499, 500, 501, 5000])
def test_a_large_tree_is_shown_in_part(count: int):
    node = a_node(count)
    lines = str(node).splitlines()
    assert len(lines) == min(count, 501)
    parsed = Tags()
    parsed.feed(node._repr_html_())
    assert (parsed.opened.count("li"), parsed.open) == (min(count, 500), [])
    assert ("more tasks" in lines[-1]) == ("more tasks" in node._repr_html_()) == (count > 500)
    assert len(node.to_mermaid().splitlines()) == 1 + count + (count - 1) + len(TaskStatus)


def test_a_deep_tree_is_shown_without_recursion():
    tasks = [Task(id="0", name="0", root_id="0")]
    tasks += [Task(id=str(at), name="x", root_id="0", parent_id=str(at - 1)) for at in range(1, 3000)]
    node = TaskTreeNode.build(tasks)
    assert "more tasks" in str(node)
    assert "more tasks" in node._repr_html_()
    assert "t2998 --- t2999" in node.to_mermaid()


def test_a_flowchart_has_dependencies_and_classes():
    tasks = [
        Task(id="a", name="a", root_id="a", status=TaskStatus.IN_PROGRESS),
        Task(id="b", name="b", root_id="a", parent_id="a", status=TaskStatus.COMPLETED),
        Task(id="c", name="c", root_id="a", parent_id="a", dependencies=[{"id": "b", "required": True}]),
        Task(id="d", name="d", root_id="a", parent_id="a", dependencies=[{"id": "c", "required": False}]),
    ]
    assert TaskTreeNode.build(tasks).to_mermaid().splitlines()[:11] == [
        "flowchart TD",
        '    t0["a"]:::in_progress',
        '    t1["b"]:::completed',
        '    t2["c"]:::pending',
        '    t3["d"]:::pending',
        "    t0 --- t1",
        "    t0 --- t2",
        "    t0 --- t3",
        "    t1 --> t2",
        "    t2 -.-> t3",
        "    classDef pending stroke:#757575,color:#757575",
    ]
