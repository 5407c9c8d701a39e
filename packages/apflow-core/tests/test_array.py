"""Arrays of tasks, random ones among them: good ones, and good ones with one fault put in."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apflow.core.authoring.creator import TaskCreator, check_array
from apflow.core.errors import TreeInvalidError
from apflow.core.model.tree import TaskTreeNode
from apflow.core.settings import Settings
from apflow.core.store.base import TaskQuery
from apflow.core.store.memory import MemoryStore

Array = list[dict[str, Any]]

PRIORITIES = st.one_of(st.none(), st.integers(-5, 9))
KEYS = st.text(max_size=5).filter(lambda key: not key.startswith("$"))  # "$run" and others have a meaning
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
POLICIES = st.sampled_from([
    None,
    {},
    {"timeout": 1.5},
    {"retry": {"max_attempts": 3, "delay": 0, "jitter": False, "on": ["ValueError"]}},
    {"effect": "once", "retry": None},
])  # fmt: skip


@st.composite
def good_arrays(
    draw: st.DrawFn, *, min_size: int = 1, max_size: int = 8, has_ids: bool | None = None
) -> Array:
    """An array that is a tree: parents and dependencies go backwards, then the order is shuffled."""
    size = draw(st.integers(min_size, max_size))
    has_ids = draw(st.booleans()) if has_ids is None else has_ids
    references = [f"r{number}" for number in range(size)]
    array: Array = []
    for at in range(size):
        entry: dict[str, Any] = (
            {"name": f"name {at}", "id": references[at]} if has_ids else {"name": references[at]}
        )
        entry["inputs"] = draw(st.dictionaries(KEYS, VALUES, max_size=2))
        if at:
            entry["parent_id"] = references[draw(st.integers(0, at - 1))]
            needed = draw(st.lists(st.integers(0, at - 1), unique=True, max_size=3))
            entry["dependencies"] = [_dependency(draw, references[each]) for each in needed]
            if needed and draw(st.booleans()):
                entry["inputs"]["from"] = {"$from": references[needed[0]], "path": "a.b[0]"}
        entry |= draw(st.fixed_dictionaries({}, optional={"priority": PRIORITIES, "policy": POLICIES}))
        array.append(entry)
    return draw(st.permutations(array)) if draw(st.booleans()) else array


def _dependency(draw: st.DrawFn, reference: str) -> Any:
    return draw(st.sampled_from([reference, {"id": reference}, {"id": reference, "required": False}]))


@dataclass(frozen=True)
class Fault:
    """One way to spoil a good array; `says` is what the message must match, besides the task's index."""

    says: str
    spoil: Callable[[Array, int], Any]  # changes the task at this index, or returns another array
    names_index: bool = True
    needs_ids: bool | None = None
    min_size: int = 1


def _set(key: str, value: Any) -> Callable[[Array, int], None]:
    def spoil(array: Array, at: int) -> None:
        array[at][key] = value

    return spoil


def _drop(key: str) -> Callable[[Array, int], None]:
    def spoil(array: Array, at: int) -> None:
        del array[at][key]

    return spoil


def _replace(value: Any) -> Callable[[Array, int], None]:
    def spoil(array: Array, at: int) -> None:
        array[at] = value

    return spoil


def _reference(array: Array, at: int) -> str:
    return array[at].get("id") or array[at]["name"]


def _depend_on_itself(array: Array, at: int) -> None:
    array[at]["dependencies"] = [_reference(array, at)]


def _twice(array: Array, at: int) -> None:
    other = _reference(array, at - 1)
    array[at]["dependencies"] = [other, {"id": other}]


def _same_id(array: Array, at: int) -> None:
    first = min(at, (at + 1) % len(array))
    array[max(at, (at + 1) % len(array))]["id"] = array[first]["id"]


def _contain_itself(array: Array, at: int) -> None:
    array[at]["parent_id"] = _reference(array, at)


def _two_roots(array: Array, at: int) -> Array:
    return [*array, {"name": "another root"} | ({"id": "r"} if "id" in array[at] else {})]


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


FAULTS = [
    Fault("needs a name", _set("name", None)),
    Fault("needs a name", _set("name", " ")),
    Fault("needs a name", _set("name", 7)),
    Fault("must be an object", _replace("task")),
    Fault("must be an object", _replace(None)),
    Fault("it has no id", _drop("id"), needs_ids=True, min_size=2),
    Fault("id must be text", _set("id", 5), needs_ids=True),
    Fault("at most 255", _set("id", "x" * 256), needs_ids=True),
    Fault("is that of", _same_id, needs_ids=True, min_size=2, names_index=False),
    Fault("no key 'inptus'. Did you mean 'inputs'", _set("inptus", {})),
    Fault("no key 'executor_id'. Use params.executor_id", _set("executor_id", "x")),
    Fault("priority must be an integer", _set("priority", "high")),
    Fault("priority must be an integer", _set("priority", True)),
    Fault("priority must be an integer", _set("priority", 1.5)),
    Fault("out of range", _set("priority", 2**40)),
    Fault("inputs must be an object", _set("inputs", [1])),
    Fault("inputs.n is nan", _set("inputs", {"n": float("nan")})),
    Fault("inputs.n is an integer beyond 64 bits", _set("inputs", {"n": 2**70})),
    Fault("inputs has a key that is not text", _set("inputs", {1: 2})),
    Fault("is not JSON", _set("inputs", {"n": object()})),
    Fault("nested more than 64 deep", _set("inputs", {"n": _deep(70)})),
    Fault("nested more than 64 deep", _set("inputs", {"n": _deep(5000)})),
    Fault("inputs takes .* bytes", _set("inputs", {"n": "x" * (1 << 20)})),
    Fault(r"\*\*\*", _set("inputs", {"password": "***"})),
    Fault("params.executor_id must be", _set("params", {"executor_id": 3})),
    Fault("schemas.method must be", _set("schemas", {"method": ["x"]})),
    Fault("schemas.input_schema", _set("schemas", {"input_schema": {"type": 5}})),
    Fault("schemas.output_schema must be a JSON Schema", _set("schemas", {"output_schema": "x"})),
    Fault("no key 'timeot'. Did you mean 'timeout'", _set("policy", {"timeot": 1})),
    Fault("policy.timeout must be", _set("policy", {"timeout": 0})),
    Fault("policy.timeout must be", _set("policy", {"timeout": "1"})),
    Fault("policy.effect must be", _set("policy", {"effect": "twice"})),
    Fault("policy.retry must be an object", _set("policy", {"retry": 3})),
    Fault("policy.retry.max_attempts must be", _set("policy", {"retry": {"max_attempts": 0}})),
    Fault("policy.retry.max_attempts must be", _set("policy", {"retry": {"max_attempts": True}})),
    Fault("policy.retry.delay must be", _set("policy", {"retry": {"delay": -1}})),
    Fault("policy.retry.on must be", _set("policy", {"retry": {"on": "ValueError"}})),
    Fault("policy.retry has no key", _set("policy", {"retry": {"attempts": 2}})),
    Fault("dependencies must be a list", _set("dependencies", {"id": "r0"})),
    Fault("a dependency is", _set("dependencies", [5])),
    Fault("a dependency is", _set("dependencies", [{"required": True}])),
    Fault("the id of a dependency must be text", _set("dependencies", [{"id": 5}])),
    Fault("is not a task of the array", _set("dependencies", ["nobody"])),
    Fault("required of a dependency", _set("dependencies", [{"id": "r0", "required": "yes"}])),
    Fault(
        "a dependency has no key 'requierd'. Did you mean",
        _set("dependencies", [{"id": "r0", "requierd": 1}]),
    ),
    Fault("named twice", _twice, min_size=2),
    Fault("circle", _depend_on_itself),
    Fault("parent_id 'absent' is not a task of the array", _set("parent_id", "absent")),
    Fault("parent_id must be", _set("parent_id", 5)),
    Fault("contain each other", _contain_itself),
    Fault("exactly one root", _two_roots, names_index=False),
    Fault("not a dependency of this task", _set("inputs", {"x": {"$from": "nobody"}})),
    Fault("is not a valid JMESPath", _set("inputs", {"x": {"$from": "nobody", "path": "a["}})),
    Fault("user_id must be text", _set("user_id", 5)),
    Fault("status must be one of pending", _set("status", "done")),
    Fault('result only with "status": "completed"', _set("result", 5)),
    Fault("tasks is empty", lambda array, at: [], names_index=False),
    Fault("tasks must be a list", lambda array, at: {"tasks": array}, names_index=False),
]


@st.composite
def bad_arrays(draw: st.DrawFn) -> tuple[Any, int | None, str]:
    """An array with one fault: the array, the index that must be named, and what must be said."""
    fault = draw(st.sampled_from(FAULTS))
    array = copy.deepcopy(
        list(draw(good_arrays(min_size=fault.min_size, max_size=5, has_ids=fault.needs_ids)))
    )
    at = draw(st.integers(0, len(array) - 1))
    other = fault.spoil(array, at)
    return array if other is None else other, at if fault.names_index else None, fault.says


LIMITS = Settings()


def refused(tasks: Any, limits: Settings = LIMITS) -> TreeInvalidError:
    with pytest.raises(TreeInvalidError) as caught:
        check_array(tasks, limits)
    return caught.value


async def check_refusal(tasks: Any, at: int | None, says: str) -> None:
    store = MemoryStore()
    with pytest.raises(TreeInvalidError) as caught:
        await TaskCreator(store).create_task_tree_from_array(tasks)
    place = "" if at is None else re.escape(f"tasks[{at}]")
    found = caught.value.violations
    assert any(re.search(says, each) and re.search(place, each) for each in found), found
    assert str(caught.value).startswith("The tasks are refused, nothing was created: ")
    assert await store.count(TaskQuery()) == {}


def check_good(array: Array) -> None:
    tasks = check_array(array, LIMITS)
    has_ids = "id" in array[0]
    by_reference = {entry.get("id") or entry["name"]: task for entry, task in zip(array, tasks, strict=True)}
    root = TaskTreeNode.build(tasks)
    assert sum(1 for _ in root.walk()) == len(tasks)
    for at, (entry, task) in enumerate(zip(array, tasks, strict=True)):
        assert (task.name, task.position, task.root_id) == (entry["name"], at, root.task.id)
        assert task.id == entry["id"] if has_ids else task.id not in by_reference
        above = entry.get("parent_id")
        assert task.parent_id == (by_reference[above].id if above else None)
        needed = [each if isinstance(each, str) else each["id"] for each in entry.get("dependencies", [])]
        assert [each["id"] for each in task.dependencies] == [by_reference[each].id for each in needed]
        source = entry["inputs"].get("from")
        if isinstance(source, dict) and "$from" in source:
            assert task.inputs["from"] == source | {"$from": by_reference[source["$from"]].id}


@given(bad_arrays())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_a_bad_array_is_refused_by_name_and_leaves_nothing(bad: tuple[Any, int | None, str]):
    await check_refusal(*bad)


@pytest.mark.long
@given(bad_arrays())
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_ten_thousand_bad_arrays_are_refused_by_name(bad: tuple[Any, int | None, str]):
    await check_refusal(*bad)


@given(good_arrays())
@settings(max_examples=200, deadline=None)
def test_a_good_array_becomes_the_tree_that_it_describes(array: Array):
    check_good(array)


@pytest.mark.long
@given(good_arrays(max_size=30))
@settings(max_examples=3000, deadline=None)
def test_thousands_of_good_arrays_become_trees(array: Array):
    check_good(array)


def test_all_faults_are_listed_and_the_message_stays_short():
    error = refused(
        [{"name": "a"}, *({"name": f"t{n}", "parent_id": "a", "priority": "x"} for n in range(50))]
    )
    assert len(error.violations) == 50
    assert "(and 45 more)" in str(error)
    assert error.violations[0].startswith("tasks[1] ('t0'): priority must be an integer")


def test_a_circle_is_spelled_out():
    array: Array = [{"name": "root", "id": "r"}]
    array += [{"name": n, "id": n, "parent_id": "r", "dependencies": [d]} for n, d in ("ab", "bc", "ca")]
    assert "tasks[1] ('a') -> tasks[2] ('b') -> tasks[3] ('c') -> tasks[1] ('a')" in str(refused(array))


def test_a_name_where_an_id_is_needed_is_explained():
    error = refused([{"name": "fetch", "id": "1"}, {"name": "b", "id": "2", "parent_id": "fetch"}])
    assert "tasks[0] has that name: use its id '1'" in str(error)


def test_a_reference_to_a_name_that_stands_twice_is_refused():
    twice = [{"name": "r"}, {"name": "a", "parent_id": "r"}, {"name": "a", "parent_id": "r"}]
    assert len(check_array(twice, LIMITS)) == 3
    error = refused([*twice, {"name": "b", "parent_id": "r", "dependencies": ["a"]}])
    assert "could be tasks[1], tasks[2]" in str(error)


def test_an_array_whose_references_no_task_has_is_refused_with_the_reason():
    error = refused([{"name": "generate_executor"}, {"name": "command_executor", "parent_id": "task_1"}])
    assert "'task_1' is not a task of the array. No task has an id, so use the name" in str(error)


def test_limits_are_those_of_the_settings():
    small = Settings(max_tasks=2, max_dependencies=1, max_inputs_bytes=10, max_json_depth=2)
    assert "3 tasks are too many" in str(refused([{"name": "a"}] * 3, small))
    assert "takes" in str(refused([{"name": "a", "inputs": {"text": "0123456789"}}], small))
    assert "nested" in str(refused([{"name": "a", "inputs": {"x": [[1]]}}], small))
    two = [{"name": "a"}, {"name": "b", "parent_id": "a", "dependencies": ["a"]}]
    assert len(check_array(two, small)) == 2
    none = Settings(max_dependencies=0)
    assert "dependencies are too many" in str(refused(two, none))


def test_without_ids_results_are_also_given_under_the_name():
    tasks = check_array([{"name": "a"}, {"name": "b", "parent_id": "a", "dependencies": ["a"]}], LIMITS)
    assert tasks[1].dependencies == [{"id": tasks[0].id, "required": True, "name": "a"}]


def test_text_that_no_store_could_keep_is_made_storable():
    tasks = check_array([{"name": "a\0b", "inputs": {"x": "\ud800"}}], LIMITS)
    assert (tasks[0].name, tasks[0].inputs) == ("a\ufffdb", {"x": "\ufffd"})


def test_the_user_is_the_one_given_the_one_of_the_root_or_the_task_s_own():
    array = [{"name": "a", "user_id": "ann"}, {"name": "b", "parent_id": "a"}]
    assert [task.user_id for task in check_array(array, LIMITS)] == ["ann", "ann"]
    assert [task.user_id for task in check_array(array, LIMITS, "bob")] == ["ann", "bob"]
    for user_id in ("a\0b", " ", "x" * 300):
        with pytest.raises(TreeInvalidError, match="user_id"):
            check_array(array, LIMITS, user_id)


def test_work_that_is_done_already_comes_with_its_result():
    array = [{"name": "a"}, {"name": "b", "parent_id": "a", "status": "completed", "result": {"n": 1}}]
    done = check_array(array, LIMITS)[1]
    assert (done.status, done.result, done.progress) == ("completed", {"n": 1}, 1.0)


@pytest.mark.parametrize("has_ids", [True, False])
def test_the_check_of_a_chain_takes_time_in_proportion_to_its_length(has_ids: bool):
    def seconds(size: int) -> float:
        array: Array = [{"name": "r"} | ({"id": "r"} if has_ids else {})]
        for at in range(size - 1):
            above = f"t{at - 1}" if at else "r"
            entry = {"name": f"t{at}", "parent_id": above, "inputs": {"n": at}}
            entry["dependencies"] = [f"t{at - 1}"] if at else []
            array.append(entry | ({"id": f"t{at}"} if has_ids else {}))
        started = time.process_time()
        assert len(check_array(array, LIMITS)) == size
        return time.process_time() - started

    # Ten times as many tasks; the square of that would be 100.
    assert min(seconds(10_000) for _ in range(3)) < 40 * max(seconds(1_000) for _ in range(3))


def test_a_wide_join_and_a_long_chain_need_no_recursion():
    wide: Array = [{"name": "r"}, *({"name": f"t{at}", "parent_id": "r"} for at in range(10_000))]
    wide.append({"name": "join", "parent_id": "r", "dependencies": [f"t{at}" for at in range(10_000)]})
    assert len(check_array(wide, LIMITS)[-1].dependencies) == 10_000
    chain: Array = [{"name": "t0"}]
    chain += [
        {"name": f"t{at}", "parent_id": f"t{at - 1}", "dependencies": [f"t{at - 1}"]}
        for at in range(1, 100_000)
    ]
    assert len(check_array(chain, LIMITS)) == 100_000
    chain[0]["dependencies"] = ["t99999"]
    assert "99990 more" in str(refused(chain))


def similar(count: int, last: str = "") -> list[str]:
    """Return words that are as much work to compare as there can be."""
    return [f"{'ab' * 60}{at}{last}" for at in range(count)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "array",
    [
        pytest.param([{"name": "a", **dict.fromkeys(similar(100_000))}], id="keys"),
        pytest.param([{"name": "a", "policy": dict.fromkeys(similar(100_000))}], id="keys of the policy"),
        pytest.param([{"name": "a", "k" * 5_000_000: 1}], id="one long key"),
        pytest.param([{"name": "a", "dependencies": similar(100_000)}], id="dependencies"),
        pytest.param(
            [
                {"name": "a", "dependencies": similar(20_000, "x")},
                *({"name": name} for name in similar(2000)),
            ],
            id="dependencies among many",
        ),
        pytest.param(
            [{"id": name, "name": name} for name in similar(2000)]
            + [
                {
                    "id": "a",
                    "name": "a",
                    "dependencies": similar(2000),
                    "inputs": {"all": [{"$from": name} for name in similar(5000, "x")]},
                }
            ],
            id="references",
        ),
        pytest.param([{"name": "a", "dependencies": ["a"]} for _ in range(20_000)], id="the same name"),
        pytest.param([{}] * 200_000, id="nothing"),
    ],
)
def test_a_hostile_array_is_refused_and_not_at_length(array: Array):
    error = refused(array)
    assert len(error.violations) <= 1001
    assert len(str(error)) < 10_000
