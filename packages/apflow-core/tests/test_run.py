"""Running trees: order, outcomes, retries, hooks, and running again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskTreeNode,
    clear_hooks,
    executor_register,
    get_registry,
    register_task_tree_hook,
)
from apflow.core.engine import active_runs
from apflow.core.errors import AlreadyRunningError, NotFoundError, ValidationError
from apflow.core.store.base import Change, Transition, TransitionResult


class Echo(BaseTask):
    """Returns its inputs, or does what `do` says."""

    id = "echo"
    name = "Echo"
    description = "Returns its inputs"
    calls: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task_id is not None
        self.calls.append(self.task_id)
        match inputs.get("do"):
            case "fail":
                return {"status": "failed", "error": "asked to", "error_type": "Asked"}
            case "raise":
                raise OSError("no such thing")
            case "sleep":
                await asyncio.sleep(inputs.get("seconds", 60))
            case "fail twice" if self.attempts < 3:
                raise ConnectionError(f"attempt {self.attempts}")
            case "object":
                return object()
            case "wait":
                await asyncio.sleep(0)
            case _:
                pass
        return {"inputs": inputs, "key": self.idempotency_key, "results": dict(self.dependency_results)}


class Strict(Echo):
    """Wants a number."""

    id = "strict"

    def get_input_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "data": {"type": "array"},
                "m": {"type": "integer", "default": 7},
            },
            "required": ["n"],
        }


class Single(Echo):
    """Runs alone."""

    id = "single"
    max_concurrency = 1
    now = 0
    most = 0

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Single.now += 1
        Single.most = max(Single.most, Single.now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        Single.now -= 1


@pytest.fixture(autouse=True)
def executors():
    Echo.calls.clear()
    for each in (Echo, Strict, Single):
        executor_register(each, override=True)
    yield
    for each in (Echo, Strict, Single):
        get_registry().unregister(each.id)
    clear_hooks()


@pytest.fixture
def db() -> MemoryStore:
    return MemoryStore()


async def run(db: MemoryStore, *tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Create a tree and run it; return the tasks by the id given."""
    node = await TaskCreator(db).create_task_tree_from_array(tasks)
    await TaskManager(db, **options).distribute_task_tree(node)
    return await stored(db, node.task.id)


async def stored(db: MemoryStore, root_id: str) -> dict[str, Any]:
    return {task.id: task for task in await db.tree(root_id)}


def echo(
    task_id: str, parent: str | None = None, *needs: Any, executor: str = "echo", **more: Any
) -> dict[str, Any]:
    more.setdefault("inputs", {"do": more.pop("do")} if "do" in more else {})
    return {"id": task_id, "name": executor, "parent_id": parent, "dependencies": list(needs), **more}


async def test_a_task_waits_for_its_dependencies_and_sees_their_results(db):
    tasks = await run(db, echo("a", None), echo("b", "a", "a", inputs={"x": {"$from": "a", "path": "key"}}))
    assert Echo.calls == ["a", "b"]
    assert tasks["b"].result["inputs"]["x"] == "a:0"
    assert tasks["b"].result["inputs"]["a"] == tasks["a"].result
    assert tasks["b"].result["results"] == {"a": tasks["a"].result}
    assert tasks["b"].inputs == {"x": {"$from": "a", "path": "key"}}


async def test_priority_zero_starts_first_and_ties_go_by_position(db):
    await run(
        db,
        echo("r", None, "a", "b", "c"),
        echo("a", "r", priority=2),
        echo("b", "r", priority=0),
        echo("c", "r", priority=2),
        max_concurrency=1,
    )
    assert Echo.calls == ["b", "a", "c", "r"]


async def test_a_returned_failure_fails_the_task_and_keeps_the_dict(db):
    tasks = await run(db, echo("a", do="fail"))
    assert (tasks["a"].status, tasks["a"].error) == ("failed", "asked to")
    assert tasks["a"].result == {"status": "failed", "error": "asked to", "error_type": "Asked"}


async def test_an_exception_fails_the_task_under_the_name_of_its_class(db):
    tasks = await run(db, echo("a", do="raise"), echo("b", "a", "a"), echo("c", "a"))
    assert tasks["a"].result["error_type"] == "OSError"
    assert tasks["b"].result["error_type"] == "DependencyFailed"
    assert tasks["b"].result["failed_task_id"] == "a"
    assert tasks["c"].status == "completed"


async def test_a_result_that_is_no_json_fails(db):
    tasks = await run(db, echo("a", do="object"))
    assert tasks["a"].result["error_type"] == "ResultNotSerializable"


async def test_inputs_are_validated_before_the_call_and_defaults_filled(db):
    tasks = await run(
        db, echo("r", None), echo("a", "r", executor="strict", inputs={"n": "x"}),
        echo("b", "r", executor="strict", inputs={"n": 1}),
    )  # fmt: skip
    assert tasks["a"].result["error_type"] == "ValidationError"
    assert "a" not in Echo.calls
    assert tasks["b"].result["inputs"] == {"n": 1, "m": 7}


async def test_an_empty_input_that_the_schema_declares_is_filled_from_a_dependency(db):
    class Source(Echo):
        id = "source"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {"data": [1, 2], "n": 3}

    executor_register(Source)
    tasks = await run(
        db, echo("a", executor="source"), echo("b", "a", "a", executor="strict", inputs={"data": []})
    )
    get_registry().unregister("source")
    assert tasks["b"].result["inputs"] == {"data": [1, 2], "n": 3, "m": 7, "a": {"data": [1, 2], "n": 3}}


async def test_an_unknown_executor_fails_the_task_with_advice(db):
    tasks = await run(db, {"id": "a", "name": "x", "schemas": {"method": "crewai_executor"}})
    assert tasks["a"].result["error_type"] == "ExecutorNotFound"
    assert "apflow-executor-crewai" in tasks["a"].error
    tasks = await run(db, {"id": "b", "name": "echo2"})
    assert "echo" in tasks["b"].error


async def test_a_retry_repeats_the_attempt_and_tells_so(db):
    tasks = await run(db, echo("a", do="fail twice", policy={"retry": {"max_attempts": 3, "delay": 0}}))
    assert (tasks["a"].status, tasks["a"].attempts, tasks["a"].not_before) == ("completed", 3, None)
    kinds = [event.type for event in await db.events("a")]
    assert kinds.count("retrying") == 2 and kinds.count("task_started") == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"retry": {"max_attempts": 3, "delay": 0, "on": ["TimeoutError"]}},
        {"retry": {"max_attempts": 3, "delay": 0}, "effect": "once"},
    ],
)
async def test_what_the_policy_does_not_name_is_not_retried(db, policy):
    tasks = await run(db, echo("a", do="fail twice", policy=policy))
    assert (tasks["a"].status, tasks["a"].attempts) == ("failed", 1)


async def test_each_attempt_has_the_timeout_to_itself(db):
    tasks = await run(
        db, echo("a", do="sleep", policy={"timeout": 0.02, "retry": {"max_attempts": 2, "delay": 0}})
    )
    assert (tasks["a"].result["error_type"], tasks["a"].attempts) == ("TimeoutError", 2)


async def test_a_group_tells_what_became_of_its_children(db):
    tasks = await run(db, {"id": "g", "name": "group"}, echo("a", "g"), echo("b", "g", do="fail"))
    assert tasks["g"].result["children"] == {"a": "completed", "b": "failed"}
    assert tasks["g"].result["error_type"] == "ChildFailed"
    tasks = await run(db, {"id": "h", "name": "group"}, echo("c", "h"))
    assert tasks["h"].result == {"children": {"c": "completed"}}


async def test_a_tree_that_waits_for_itself_fails_naming_the_circle(db):
    tasks = await run(
        db,
        echo("r", None),
        {"id": "g", "name": "group", "parent_id": "r"},
        echo("a", "g", "b"),
        echo("b", "r", "g"),
    )
    assert {task.status for task in tasks.values()} == {"failed"}
    assert tasks["r"].result["error_type"] == "TreeInvalid"
    assert "'group'" in tasks["r"].error


async def test_max_concurrency_of_an_executor_holds(db):
    Single.now = Single.most = 0
    tasks = await run(db, echo("r", None), *[echo(f"t{i}", "r", executor="single") for i in range(20)])
    assert {task.status for task in tasks.values()} == {"completed"}
    assert Single.most == 1


async def test_a_narrowed_run_never_calls_more_at_once(db):
    running, most = 0, 0

    class Counting(Echo):
        id = "counting"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(20):
                await asyncio.sleep(0)
            running -= 1

    executor_register(Counting)
    await run(
        db, echo("r", None), *[echo(f"t{i}", "r", executor="counting") for i in range(30)], max_concurrency=3
    )
    get_registry().unregister("counting")
    assert most == 3


class Counts(MemoryStore):
    """Counts the changes that are written."""

    writes = 0

    async def write(self, change: Change) -> TransitionResult:
        self.writes += 1
        return await super().write(change)


@pytest.mark.parametrize("has_hooks", [False, True])
async def test_tasks_that_end_together_are_written_together_with_those_that_start_in_their_places(has_hooks):
    async def after(task, inputs, result):
        pass

    db = Counts()
    leaves = [echo(f"t{i}", "r") for i in range(60)]
    node = await TaskCreator(db).create_task_tree_from_array([echo("r", None), *leaves])
    db.writes = 0
    hooks = [after] if has_hooks else []
    await TaskManager(db, max_concurrency=20, post_hooks=hooks).distribute_task_tree(node)
    assert len(Echo.calls) == 61
    assert db.writes <= 7  # three times twenty leaves, their root, and the end of the run


async def test_pre_hooks_change_the_inputs_and_post_hooks_see_failures(db):
    seen: list[Any] = []

    async def before(task):
        task.inputs["added"] = 1

    def broken(task):
        raise RuntimeError("a hook that fails")

    async def after(task, inputs, result):
        seen.append((task.id, task.status, inputs["added"], result["error_type"] if task.error else None))

    tasks = await run(
        db, echo("a", do="raise"), echo("b", "a"), pre_hooks=[broken, before], post_hooks=[after]
    )
    assert sorted(seen) == [("a", "failed", 1, "OSError"), ("b", "completed", 1, None)]
    assert tasks["b"].inputs == {} and tasks["b"].result["inputs"] == {"added": 1}


async def test_post_hooks_run_before_dependents_start(db):
    order: list[str] = []

    async def after(task, inputs, result):
        await asyncio.sleep(0)
        order.append(f"hook {task.id}")
        order.extend(f"started {each}" for each in Echo.calls if f"started {each}" not in order)

    await run(db, echo("a", None), echo("b", "a", "a"), post_hooks=[after])
    assert order == ["hook a", "started a", "hook b", "started b"]


async def test_post_hooks_are_not_called_where_no_executor_was(db):
    seen: list[str] = []
    tasks = await run(
        db, echo("r", None), echo("a", "r", executor="strict"), echo("b", "r", "a"),
        {"id": "c", "name": "x", "parent_id": "r"},
        post_hooks=[lambda task, inputs, result: seen.append(task.id)],
    )  # fmt: skip
    assert [str(tasks[each].status) for each in "rabc"] == ["completed", "failed", "failed", "failed"]
    assert seen == ["r"]


async def test_executors_share_no_result_of_a_dependency(db):
    class Changes(Echo):
        id = "changes"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            self.dependency_results["a"]["inputs"]["list"].append(2)
            return inputs["a"]["inputs"]["list"]

    executor_register(Changes)
    tasks = await run(
        db, echo("a", inputs={"list": [1]}),
        echo("b", "a", "a", executor="changes"), echo("c", "a", "a", executor="changes"),
    )  # fmt: skip
    get_registry().unregister("changes")
    assert tasks["a"].result["inputs"]["list"] == [1]
    assert tasks["c"].result in ([1], [1, 2])


async def test_tree_hooks_are_told_start_and_end(db):
    told: list[Any] = []
    register_task_tree_hook("on_tree_started", lambda root: told.append(("started", root.id)))
    register_task_tree_hook("on_tree_completed", lambda root, status: told.append(("completed", status)))
    register_task_tree_hook("on_tree_failed", lambda root, message: told.append(("failed", message)))
    await run(db, echo("a", None))
    await run(db, echo("b", do="fail"))
    assert told == [
        ("started", "a"),
        ("completed", "completed"),
        ("started", "b"),
        ("failed", "task echo: asked to"),
    ]
    assert (await stored(db, "a"))["a"].run_requested_at is None


async def test_running_again_keeps_what_completed_and_repeats_what_failed(db):
    await run(db, echo("r", None), echo("a", "r"), echo("b", "r", do="fail"), echo("c", "r", "b"))
    Echo.calls.clear()
    answer = await TaskExecutor().execute_task_by_id("r", db_session=db)
    assert Echo.calls == ["b"]
    assert (answer["status"], answer["error"]) == ("failed", "task echo: asked to")
    tasks = await stored(db, "r")
    assert (tasks["a"].generation, tasks["b"].generation, tasks["c"].generation) == (0, 1, 1)
    Echo.calls.clear()
    await TaskExecutor().execute_task_by_id("r", db_session=db, force=True)
    assert sorted(Echo.calls) == ["a", "b", "r"]


async def test_executing_a_task_runs_what_it_needs_and_nothing_else(db):
    node = await TaskCreator(db).create_task_tree_from_array(
        [echo("r", None), echo("a", "r"), echo("b", "r", "a"), echo("c", "r")]
    )
    await TaskExecutor().execute_task_by_id("b", db_session=db)
    tasks = await stored(db, node.task.id)
    assert {task.id: str(task.status) for task in tasks.values()} == {
        "r": "pending", "a": "completed", "b": "completed", "c": "pending",
    }  # fmt: skip
    assert [event.type for event in await db.events("r")][-1] == "tree_completed"


async def test_a_tree_runs_once_at_a_time(db):
    node = await TaskCreator(db).create_task_tree_from_array([echo("a", do="sleep", inputs={"do": "sleep"})])
    manager = TaskManager(db)
    first = asyncio.create_task(manager.distribute_task_tree(node))
    while not Echo.calls:
        await asyncio.sleep(0)
    with pytest.raises(AlreadyRunningError, match="'a'"):
        await manager.distribute_task_tree(TaskTreeNode(node.task))
    await manager.cancel_task("a")
    assert (await first)["status"] == "cancelled"


async def test_the_node_that_was_given_answers_afterwards(db):
    node = await TaskCreator(db).create_task_tree_from_array([echo("a", None), echo("b", "a")])
    result = await TaskManager(db).distribute_task_tree(node)
    assert result is node
    assert (result["status"], result["progress"], result["error"]) == ("completed", 1.0, None)
    assert result["result"]["key"] == "a:0"
    assert [child.task.status for child in result.children] == ["completed"]


async def test_an_unstored_tree_is_refused(db):
    node = await TaskCreator(db).create_task_tree_from_array([echo("a", None)])
    await db.remove(["a"])
    with pytest.raises(NotFoundError):
        await TaskManager(db).distribute_task_tree(node)


async def test_a_refused_array_is_a_value_error_and_leaves_nothing(db):
    with pytest.raises(ValueError, match="nowhere"):
        await TaskExecutor().execute_tasks([echo("a", None), echo("b", "nowhere")], db_session=db)
    assert await db.tree("a") == []


async def test_params_make_the_executor_and_unknown_ones_fail_the_task(db):
    class Made(Echo):
        id = "made"

        def __init__(self, size: int = 1) -> None:
            self.size = size

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return self.size

    executor_register(Made)
    tasks = await run(
        db, echo("r", None), echo("a", "r", params={"executor_id": "made", "size": 3}),
        echo("b", "r", executor="made", params={"sise": 3}),
    )  # fmt: skip
    get_registry().unregister("made")
    assert tasks["a"].result == 3
    assert tasks["b"].result["error_type"] == ValidationError.__name__
    assert "sise" in tasks["b"].error


async def test_a_change_by_somebody_else_in_the_middle_is_taken_as_it_is(db):
    node = await TaskCreator(db).create_task_tree_from_array(
        [
            echo("r", None, "a", "b"),
            echo("a", "r", inputs={"do": "sleep", "seconds": 0.05}),
            echo("b", "r", "a"),
        ]
    )
    running = asyncio.create_task(TaskManager(db).distribute_task_tree(node))
    while not Echo.calls:
        await asyncio.sleep(0)
    # Another writer fails the pending task during the run.
    moved = await db.write(
        Change(moves=[Transition("b", "r", {"status": "pending"}, {"status": "failed", "error": "by hand"})])
    )
    assert moved[0] is not None
    await running
    tasks = await stored(db, "r")
    assert (tasks["a"].status, tasks["b"].error) == ("completed", "by hand")
    assert tasks["r"].result["error_type"] == "DependencyFailed"
    assert Echo.calls == ["a"]


async def test_a_thousand_deep_nest_of_groups_completes(db):
    nest = [{"id": "0", "name": "g"}] + [
        {"id": str(i), "name": "g", "parent_id": str(i - 1)} for i in range(1, 1000)
    ]
    tasks = await run(db, *nest, echo("leaf", "999"))
    assert {task.status for task in tasks.values()} == {"completed"}


def test_a_store_serves_one_event_loop_after_the_other(db):
    asyncio.run(run(db, echo("a", None)))
    tasks = asyncio.run(run(db, echo("b", None)))
    assert tasks["b"].status == "completed"


async def test_a_run_whose_first_change_is_lost_is_planned_anew():
    class Interfering(MemoryStore):
        is_done = False

        async def write(self, change: Change) -> Any:
            if not self.is_done and any(move.sets.get("run_owner") for move in change.moves):
                self.is_done = True
                await super().write(
                    Change(moves=[Transition("b", "a", {"status": "pending"}, {"generation": 1})])
                )
            return await super().write(change)

    tasks = await run(Interfering(), echo("a", None), echo("b", "a"))
    assert {task.status for task in tasks.values()} == {"completed"}


async def test_code_of_an_executor_can_be_told_which_task_it_works_on(db: MemoryStore):
    class Asking(BaseTask):
        id = "asking"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            seen = [active_runs.current_task()]
            await asyncio.sleep(inputs.get("seconds", 0))
            seen.append(active_runs.current_task())
            return [each.id for each in seen if each is not None]

    executor_register(Asking, override=True)
    try:
        root = {"id": "r", "name": "group"}
        rest = [
            {"id": str(at), "name": "asking", "parent_id": "r", "inputs": {"seconds": 0.01 * (at % 2)}}
            for at in range(6)
        ]
        tasks = await run(db, root, *rest)
    finally:
        get_registry().unregister(Asking.id)
    assert [tasks[each["id"]].result for each in rest] == [[each["id"]] * 2 for each in rest]
    assert active_runs.current_task() is None
