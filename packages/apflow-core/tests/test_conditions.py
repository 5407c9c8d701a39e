"""Conditions of tasks: what is refused, what they see, and what a skipped task means for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    executor_register,
    get_registry,
)
from apflow.core.authoring.repository import TaskRepository
from apflow.core.engine.cancellation import CancelRequest, request_elsewhere
from apflow.core.errors import InvalidInputError, QueryError, TreeInvalidError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task, utc_now
from apflow.core.model.tree import tree_outcome
from apflow.core.payload.condition import MAX_WORK, Condition
from apflow.core.planning.change_set import ChangeSet
from apflow.core.planning.explain import explain


class Echo(BaseTask):
    id = "echo"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("fails"):
            raise ValueError("as asked")
        return inputs.get("value")


@pytest.fixture(autouse=True, scope="module")
def echo() -> Iterator[None]:
    executor_register(Echo, override=True)
    yield
    get_registry().unregister("echo")


def entry(name: str, *needs: Any, value: Any = None, **more: Any) -> dict[str, Any]:
    shown = {"name": name, "parent_id": "root", "dependencies": list(needs), "inputs": {"value": value}}
    return shown | {"schemas": {"method": "echo"}} | more


def optional(name: str) -> dict[str, Any]:
    return {"name": name, "required": False}


def tree(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "root"}, *entries]


async def run(*entries: dict[str, Any], db: MemoryStore | None = None) -> dict[str, Task]:
    """Run a tree of these tasks below a group; return its tasks by key."""
    db = db or MemoryStore()
    outcome = await TaskExecutor().execute_tasks(tree(*entries), db_session=db)
    return {task.key: task for task in await db.tree(outcome["root_task_id"])}


def statuses(tasks: dict[str, Task], *keys: str) -> list[str]:
    return [str(tasks[each].status) for each in keys]


def test_a_false_condition_is_false_and_nothing_else_is():
    results: dict[str, Any] = {"a": {"ok": False, "n": 3, "items": []}, "b": None}
    decided = {
        text: Condition(text).decide(results)
        for text in ("a.ok", "a.n > `2`", "!(a.ok)", "b == `null`", "a.ok || a.n == `3`", "@.a.n == `3`")
    }
    assert [each.holds for each in decided.values()] == [False, True, True, True, True, True]
    assert [each.fault for each in decided.values()] == [None] * 6


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.oops", "gives null, not true or false"),
        ("a.n", "gives 3, not true or false"),
        ("a", "gives an object, not true or false"),
        ("a.text > `1`", "fails: '>' not supported between"),
        ("length(a.n) == `1`", "fails: In function length(), invalid type"),
    ],
)
def test_what_is_neither_true_nor_false_decides_nothing(text: str, fault: str):
    verdict = Condition(text).decide({"a": {"n": 3, "text": "x"}})
    assert not verdict.holds
    assert verdict.fault is not None and verdict.fault.startswith(fault)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a.ok == `true", "at column 9"),
        ("a.ok = `1`", "at column 6"),
        ("a.ok ==", "at column 8"),
        ("a && sizeof(a)", "there is no function 'sizeof' at column 6"),
        ("length(a, a)", "takes 1 arguments, not 2"),
        ("!a.ok", "the ! at column 1 applies before"),
    ],
)
def test_an_invalid_expression_is_refused_with_the_column(text: str, cause: str):
    with pytest.raises(QueryError) as refused:
        Condition(text)
    assert cause in refused.value.cause


def test_the_dependencies_that_an_expression_reads_are_known():
    read = {
        text: sorted(Condition(text).names)
        for text in (
            "a.b[?c == d].e",
            "@.a",
            "@ | a",
            "sort_by(a, &b)[0].x",
            '{x: a, y: "b c".d}.x',
            "keys(@)",
        )
    }
    assert list(read.values()) == [["a"], ["a"], ["a"], ["a"], ["a", "b c"], []]


def test_the_work_of_an_expression_is_bounded():
    costly = Condition("length(a[?contains(@.b, `1`) || b[?@ == `2`]]) > `1`")
    rows = [{"b": list(range(3, 103))} for _ in range(2000)]
    verdict = costly.decide({"a": rows})
    assert verdict.fault is not None and "takes too long" in verdict.fault
    assert verdict.work <= MAX_WORK
    assert costly.decide({"a": rows[:5]}).fault is None


async def test_bad_conditions_are_refused_when_the_tree_is_created():
    entries = [
        entry("a"),
        entry("b", "a", when="a.ok =="),
        entry("c", "a", when="aa.ok"),
        entry("d", when="a.ok"),
        entry("e", "a", when="a.ok == true"),
        entry("f", "a", trigger="sometimes"),
        entry("g", "a", policy={"when": 3}),
        entry("h", "a", when="a.ok", policy={"when": "a"}),
        entry("i", "a", **{"if": "a.ok"}),
    ]
    with pytest.raises(TreeInvalidError) as refused:
        await TaskCreator(MemoryStore()).create_task_tree_from_array(tree(*entries))
    violations = " ".join(refused.value.violations)
    for fault in (
        "('b'): when is not a valid JMESPath expression: ",
        "Incomplete expression at column 8.",
        "('c'): when names 'aa', which is not the key of a dependency. Did you mean 'a'?",
        "('d'): when names 'a', which is not the key of a dependency. It has no dependencies",
        "('e'): when names 'true' as if it were a dependency. Write `true` in backticks.",
        "('f'): trigger must be one of on_success, unless_failed, on_failure, always, not 'sometimes'.",
        "('g'): policy.when must be a JMESPath expression of 1 to 2,000 characters, not 3.",
        "('h'): when and policy.when differ.",
        "('i'): there is no key 'if'. Use when.",
    ):
        assert fault in violations


async def test_conditions_of_stored_tasks_may_only_name_dependencies():
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(tree(entry("a"), entry("b", "a")))
    tasks = {task.key: task for task in await db.tree(node.task.id)}
    repository = TaskRepository(db)
    with pytest.raises(InvalidInputError, match="names 'x', which is not the key of a dependency"):
        await repository.update_task(tasks["b"].id, policy={"when": "x.ok"})
    with pytest.raises(InvalidInputError, match="names 'x', which is not the key of a dependency"):
        await repository.create_task("c", parent_id=node.task.id, dependencies=["a"], policy={"when": "x"})
    await repository.update_task(tasks["b"].id, policy={"when": "a.ok"})
    with pytest.raises(InvalidInputError, match="names 'a', which is not the key of a dependency"):
        await repository.update_task(tasks["b"].id, dependencies=[])


async def test_a_false_condition_skips_a_task_and_what_needs_it():
    tasks = await run(
        entry("a", value={"ok": False}),
        entry("b", "a", when="a.ok"),
        entry("c", "b"),
        entry("d", optional("b")),
        entry("e", "a", when="!(a.ok)"),
        entry("f", "c", "e", trigger="unless_failed"),
    )
    assert statuses(tasks, *"abcdef") == ["completed", "skipped", "skipped", *["completed"] * 3]
    assert tasks["b"].error == "Skipped, because 'a.ok' is false."
    assert tasks["b"].result == {"reason": "ConditionFalse", "condition": "a.ok"}
    assert tasks["c"].result == {"reason": "DependencySkipped", "skipped_task_id": tasks["b"].id}
    assert (tasks["b"].attempts, tasks["b"].started_at, tasks["b"].fraction) == (0, None, 1.0)
    root = tasks["root"]
    assert tree_outcome(list(tasks.values()), root.id)["status"] == str(root.status) == "completed"


async def test_a_failure_takes_precedence_over_a_skipped_dependency():
    tasks = await run(
        entry("a", value={"ok": False}),
        entry("b", "a", when="a.ok"),
        entry("slow", "a"),
        entry("bad", "slow", inputs={"fails": True}),
        entry("c", "b", "bad"),
        entry("d", "b", "bad", trigger="unless_failed"),
    )
    assert statuses(tasks, "b", "c", "d") == ["skipped", "failed", "failed"]
    assert tasks["c"].result["error_type"] == "DependencyFailed"


async def test_a_condition_that_gives_no_decision_fails_the_task():
    tasks = await run(
        entry("a", inputs={"fails": True}), entry("b", optional("a"), when="a.ok"), entry("c", "b")
    )
    assert statuses(tasks, "b", "c") == ["failed", "failed"]
    assert tasks["b"].result["error_type"] == "ConditionInvalid"
    assert "'a.ok' gives null, not true or false. Without a result, and null in it: 'a'" in tasks["b"].error
    assert tasks["b"].attempts == 0


async def test_a_group_that_is_skipped_does_not_start_its_members():
    tasks = await run(
        entry("a", value=[]),
        {"name": "g", "parent_id": "root", "dependencies": ["a"], "when": "length(a) > `0`"},
        {**entry("in", "g"), "parent_id": "g"},
        {**entry("free"), "parent_id": "g"},
        entry("after", "g"),
    )
    assert statuses(tasks, "g", "in", "free", "after") == ["skipped", "skipped", "completed", "skipped"]


async def test_a_tree_whose_root_is_skipped_is_completed():
    db = MemoryStore()
    entries = [
        {"name": "root", "schemas": {"method": "echo"}, "dependencies": ["a"], "when": "a == 'x'"},
        entry("a", value="y"),
    ]
    outcome = await TaskExecutor().execute_tasks(entries, db_session=db)
    assert (outcome["status"], outcome["progress"], outcome["result"]) == (
        "completed", 1.0, {"reason": "ConditionFalse", "condition": "a == 'x'"},
    )  # fmt: skip


async def test_executing_a_tree_again_decides_again():
    db = MemoryStore()
    tasks = await run(entry("a", value=1), entry("b", "a", when="a > `1`"), entry("c", "b"), db=db)
    assert statuses(tasks, "b", "c") == ["skipped", "skipped"]
    await TaskRepository(db).update_task(tasks["b"].id, policy={"when": "a > `0`"})
    await TaskExecutor().execute_task_by_id(tasks["b"].id, db_session=db)
    again = {task.key: task for task in await db.tree(tasks["root"].id)}
    assert statuses(again, "root", "a", "b", "c") == ["completed"] * 4
    assert (again["a"].generation, again["b"].generation) == (0, 1)


async def test_a_copy_keeps_its_conditions():
    db = MemoryStore()
    tasks = await run(entry("a", value=1), entry("b", "a", when="a > `1`"), db=db)
    copy = await TaskCreator(db).create_task_copy(tasks["root"])
    outcome = await TaskExecutor().execute_task_by_id(copy.task.id, db_session=db)
    copied = {task.key: task for task in await db.tree(outcome["root_task_id"])}
    assert statuses(copied, "a", "b") == ["completed", "skipped"]
    assert copied["b"].id != tasks["b"].id


async def test_why_names_the_condition_or_the_skipped_task():
    tasks = await run(entry("a", value=1), entry("b", "a", when="a > `1`"), entry("c", "b"))

    def reasons(key: str) -> list[str]:
        return explain(list(tasks.values()), tasks[key].id, is_driven=False, is_known=lambda _: True).reasons

    assert reasons("b")[0] == "It was skipped: Skipped, because 'a > `1`' is false."
    assert reasons("c")[1] == "'b': Skipped, because 'a > `1`' is false."


async def test_a_task_for_failures_runs_only_after_one_and_one_for_every_end_always_does():
    tasks = await run(
        entry("good"),
        entry("bad", inputs={"fails": True}),
        entry("fallen", "bad"),
        entry("alarm", "fallen", "good", trigger="on_failure"),
        entry("calm", "good", trigger="on_failure"),
        entry("clean up", "fallen", "calm", trigger="always"),
        entry("log", "alarm", when="alarm == `null`"),
        entry("after calm", "calm"),
    )
    assert statuses(tasks, "alarm", "clean up", "log") == ["completed"] * 3
    assert statuses(tasks, "calm", "after calm") == ["skipped", "skipped"]
    assert tasks["calm"].result == {"reason": "NothingFailed"}
    assert tasks["after calm"].result["skipped_task_id"] == tasks["calm"].id
    assert tasks["alarm"].started_at >= tasks["fallen"].completed_at  # type: ignore[operator]


@pytest.mark.parametrize(
    ("more", "status"), [([], "failed"), ([entry("next", optional("bad"))], "completed")]
)
async def test_what_runs_after_a_failure_does_not_make_it_tolerated(more: list[dict[str, Any]], status: str):
    tasks = await run(
        entry("bad", inputs={"fails": True}),
        entry("clean up", "bad", trigger="always"),
        entry("alarm", "bad", trigger="on_failure"),
        *more,
    )
    outcome = tree_outcome(list(tasks.values()), tasks["root"].id)
    assert outcome["status"] == str(tasks["root"].status) == status
    assert outcome["tolerated"] == ([tasks["bad"].id] if more else [])


async def test_what_cleans_up_runs_again_after_what_it_depends_on():
    db = MemoryStore()
    tasks = await run(
        entry("bad", inputs={"fails": True}),
        entry("clean up", "bad", trigger="always"),
        entry("alarm", "bad", trigger="on_failure"),
        db=db,
    )
    await TaskRepository(db).update_task(tasks["bad"].id, inputs={})
    await TaskExecutor().execute_task_by_id(tasks["bad"].id, db_session=db)
    again = {task.key: task for task in await db.tree(tasks["root"].id)}
    assert statuses(again, "root", "bad", "clean up", "alarm") == [*["completed"] * 3, "skipped"]
    assert again["clean up"].generation == 1


class Cancelled:
    """A tree in which `load` runs until it is cancelled, and `clean up` runs after it."""

    def __init__(self) -> None:
        self.db = MemoryStore()
        self.manager = TaskManager(self.db)

    async def start(self, *more: dict[str, Any]) -> None:
        node = await TaskCreator(self.db).create_task_tree_from_array(
            tree(
                entry("load", schemas={"method": "waits_for_test"}),
                entry("next", "load"),
                entry("clean up", "load", trigger="always"),
                entry("report", "clean up", trigger="always"),
                entry("of next", "next", trigger="always"),
                *more,
            )
        )
        self.root_id = node.task.id
        Waits.has_started = asyncio.Event()
        self.running = asyncio.create_task(self.manager.distribute_task_tree(node))
        await Waits.has_started.wait()

    async def end(self) -> dict[str, Task]:
        await self.running
        return {task.key: task for task in await self.db.tree(self.root_id)}


class Waits(BaseTask):
    id = "waits_for_test"
    has_started: asyncio.Event

    async def execute(self, inputs: dict[str, Any]) -> None:
        Waits.has_started.set()
        await asyncio.Event().wait()


@pytest.fixture
def waits() -> Iterator[None]:
    executor_register(Waits, override=True)
    yield
    get_registry().unregister(Waits.id)


async def test_a_cancelled_tree_is_cleaned_up(waits: None):
    tree_run = Cancelled()
    await tree_run.start()
    answer = await tree_run.manager.cancel_task(tree_run.root_id, "enough")
    assert answer["status"] == "cancelled"
    tasks = await tree_run.end()
    assert statuses(tasks, "root", "load", "next") == ["cancelled"] * 3
    assert statuses(tasks, "clean up", "report") == ["completed"] * 2
    assert str(tasks["of next"].status) == "cancelled"  # nothing that it depends on had started
    outcome = tree_outcome(list(tasks.values()), tree_run.root_id)
    assert (outcome["status"], outcome["progress"]) == ("cancelled", 1.0)


async def test_a_forced_cancellation_leaves_nothing_to_run(waits: None):
    tree_run = Cancelled()
    await tree_run.start()
    await tree_run.manager.cancel_task(tree_run.root_id, force=True)
    tasks = await tree_run.end()
    assert {str(task.status) for task in tasks.values()} == {"cancelled"}


async def test_a_cancellation_of_what_cleans_up_alone_ends_it(waits: None):
    tree_run = Cancelled()
    waiting = entry("slow", "load", trigger="always", schemas={"method": Waits.id})
    await tree_run.start(waiting)
    cancelling = asyncio.create_task(tree_run.manager.cancel_task(tree_run.root_id))
    Waits.has_started = asyncio.Event()
    await Waits.has_started.wait()  # `slow` cleans up
    await tree_run.manager.cancel_task(tree_run.root_id)
    await cancelling
    tasks = await tree_run.end()
    assert statuses(tasks, "root", "load", "slow") == ["cancelled"] * 3


async def test_a_cancelled_task_elsewhere_does_not_stop_what_cleans_up_after_it(waits: None):
    tree_run = Cancelled()
    await tree_run.start(entry("alarm", "load", trigger="on_failure"))
    load = next(task for task in await tree_run.db.tree(tree_run.root_id) if task.key == "load")
    await tree_run.manager.cancel_task(load.id)
    tasks = await tree_run.end()
    assert statuses(tasks, "load", "next", "clean up", "of next") == [
        "cancelled", "cancelled", "completed", "completed",
    ]  # fmt: skip
    assert str(tasks["alarm"].status) == "skipped"  # nothing failed


async def test_a_tree_without_an_owner_is_cancelled_whole():
    db = MemoryStore()
    array = tree(entry("load"), entry("clean up", "load", trigger="always"))
    node = await TaskCreator(db).create_task_tree_from_array(array)
    await TaskManager(db).cancel_task(node.task.id)
    assert {str(task.status) for task in await db.tree(node.task.id)} == {"cancelled"}


def test_a_cancellation_for_another_process_leaves_what_cleans_up_to_its_run():
    now = utc_now()
    load = Task(id="load", name="load", root_id="load", status=TaskStatus.IN_PROGRESS, started_at=now)
    after = Task(
        id="after",
        name="after",
        root_id="load",
        parent_id="load",
        dependencies=[{"id": "load", "required": True}],
        policy={"trigger": "always"},
    )

    def moved(request: CancelRequest) -> list[str]:
        changes = ChangeSet("load", None, now)
        request_elsewhere([load, after], request, changes)
        return sorted(changes.moves)

    request = CancelRequest(["load"], None, is_forced=False)
    assert moved(request) == ["load"]
    assert moved(request) == []  # `load` is requested now; the same request does not go further
    assert after.status == "pending"
    assert moved(CancelRequest(["load"], None, is_forced=False)) == ["after"]  # it alone is left
