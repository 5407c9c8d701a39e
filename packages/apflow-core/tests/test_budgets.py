"""Budgets while trees run: reservations, waiting and raising, nested trees, crashes, events, usage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    TaskService,
    Worker,
    executor_register,
    get_registry,
    submit,
)
from apflow.core.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StoreOutcomeUnknownError,
    StoreUnavailableError,
    TreeInvalidError,
)
from apflow.core.extensions.model_account import EndedModelCall, ModelAnswer, ModelRequest
from apflow.core.extensions.model_calls import model_call, observing_model_calls
from apflow.core.model.task import Task
from apflow.core.model.usage import ModelUsage, UsageEntry
from apflow.core.settings import overridden_defaults

Json = Any
USED = ModelUsage(input_tokens=10, output_tokens=5, cost_usd=0.25)


def request(**more: Any) -> ModelRequest:
    return ModelRequest(**{"model": "m", "input_tokens": 10, "max_output_tokens": 10, **more})


class Calls(BaseTask):
    """Calls a model as often as its inputs say, and reports what the test wants."""

    id = "calls"
    begun: list[str] = []
    most: list[int | None] = []
    before_end: Callable[[], Awaitable[object]]

    async def execute(self, inputs: dict[str, Any]) -> Any:
        for _ in range(inputs.get("times", 1)):
            async with model_call(request(**inputs.get("request", {}))) as call:
                Calls.begun.append(str(self.task_id))
                Calls.most.append(call.max_output_tokens)
                await Calls.before_end()
                call.record(USED)
                if inputs.get("fails"):
                    raise ValueError("after the call")
        return {"done": True}


class InThread(BaseTask):
    """Calls a model in a thread."""

    id = "in_thread"

    def execute(self, inputs: dict[str, Any]) -> Any:
        with model_call(request()) as call:
            call.record(USED)
        return call.max_output_tokens


class Nests(BaseTask):
    """Runs a tree inside of its task."""

    id = "nests"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        return dict(await self.run_child(inputs["tasks"]))


async def at_once() -> None:
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kinds = (Calls, InThread, Nests)
    for kind in kinds:
        executor_register(kind)
    Calls.begun, Calls.most, Calls.before_end = [], [], staticmethod(at_once)
    yield
    for kind in kinds:
        get_registry().unregister(kind.id)


@pytest.fixture
async def db() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as store:
        yield store


async def create(db: MemoryStore, *tasks: dict[str, Any]) -> None:
    await TaskCreator(db).create_task_tree_from_array([*tasks])


def tree(count: int, budget: dict[str, Any] | None, **more: Any) -> list[dict[str, Any]]:
    """Return a root with a budget, and tasks that call a model."""
    root = {"id": "r", "name": "root", **({"budget": budget} if budget else {})}
    return [root, *({"id": f"t{n}", "name": "calls", "parent_id": "r", **more} for n in range(count))]


async def run(db: MemoryStore, root_id: str = "r") -> dict[str, Task]:
    await TaskExecutor().execute_task_by_id(root_id, db_session=db)
    return {task.id: task for task in await db.tree(root_id)}


async def state(db: MemoryStore, task_id: str = "r") -> dict[str, Json]:
    return await TaskService(db).budget(task_id)


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_true():
            await asyncio.sleep(0.01)


async def until_one_waits(db: MemoryStore) -> None:
    """Wait until one of two calls has ended, and the other waits for the budget."""
    async with asyncio.timeout(30):
        while "budget_exceeded" not in [each.type for each in await db.events("r")]:
            await asyncio.sleep(0.01)
        while not any(task.status == "completed" for task in await db.tree("r")):
            await asyncio.sleep(0.01)


class LosesAnswers(MemoryStore):
    """Writes accounts and usage, and loses each second answer."""

    is_losing = False

    def lose(self) -> bool:
        self.is_losing = not self.is_losing
        return self.is_losing

    async def put_record(self, kind: str, key: str, value: Json, *, version: int | None = None) -> Any:
        written = await super().put_record(kind, key, value, version=version)
        if self.lose():
            raise StoreOutcomeUnknownError(self.url, OSError("lost"))
        return written

    async def add_usage(self, entries: Sequence[UsageEntry]) -> None:
        await super().add_usage(entries)
        if self.lose():
            raise StoreUnavailableError(self.url, "lost", "was lost.")


async def test_answers_of_the_store_that_are_lost_count_nothing_twice():
    async with LosesAnswers() as db:
        await create(db, *tree(8, {"calls": 8}))
        tasks = await run(db)
        assert {task.status for task in tasks.values()} == {"completed"}
        found = await state(db)
        assert (found["spent"]["calls"], found["spent"]["tokens"]) == (8, 120)
        assert (found["open_calls"], found["lost"]["calls"]) == (0, 0)
        assert (await TaskService(db).get("r"))["usage"]["calls"] == 8


# --- limits --------------------------------------------------------------------------------------


async def test_calls_stop_at_the_limit_and_the_rest_of_the_tasks_fails(db: MemoryStore):
    await create(db, *tree(6, {"calls": 4}))
    tasks = await run(db)
    failed = [task for task in tasks.values() if task.status == "failed" and task.id != "r"]
    assert (len(Calls.begun), len(failed)) == (4, 2)
    for task in failed:
        assert task.result["error_type"] == "BudgetExceededError"
        assert "4 calls of 4 calls" in str(task.error)
        assert "apflow tasks budget r --calls" in str(task.error)
    assert (await state(db))["spent"] == {
        "usd": 1.0,
        "tokens": 60,
        "calls": 4,
        "seconds": pytest.approx(0, abs=5),
    }


async def test_a_budget_of_a_task_counts_its_attempts_together(db: MemoryStore):
    policy = {"retry": {"max_attempts": 5, "delay": 0, "jitter": False}, "budget": {"calls": 2}}
    await create(db, {"id": "r", "name": "calls", "inputs": {"fails": True}, "policy": policy})
    tasks = await run(db)
    assert len(Calls.begun) == 2
    assert tasks["r"].result["error_type"] == "BudgetExceededError"
    assert tasks["r"].attempts == 3  # a budget that is exceeded is not a reason for another attempt


async def test_the_nearest_and_the_outermost_budget_both_apply(db: MemoryStore):
    tasks = tree(3, {"calls": 3})
    tasks[1] |= {"budget": {"calls": 1}, "inputs": {"times": 2}}
    await create(db, *tasks)
    found = await run(db)
    assert found["t0"].status == "failed"
    assert sorted(Calls.begun) == ["t0", "t1", "t2"]
    assert (await state(db))["spent"]["calls"] == 3
    assert (await state(db, "t0"))["spent"]["calls"] == 1
    assert (await state(db))["reserved"]["calls"] == 0  # of the call that the inner budget refused


async def test_a_tree_inside_of_a_task_spends_the_budget_above_it(db: MemoryStore):
    inner = [
        {"id": "i", "name": "inner"},
        *({"id": f"i{n}", "name": "calls", "parent_id": "i"} for n in range(4)),
    ]
    await create(
        db,
        {"id": "r", "name": "root", "budget": {"calls": 3}},
        {"id": "n", "name": "nests", "parent_id": "r", "inputs": {"tasks": inner}},
    )
    tasks = await run(db)
    assert (len(Calls.begun), tasks["n"].status) == (3, "failed")
    assert (await state(db))["spent"]["calls"] == 3
    service = TaskService(db)
    assert (await service.get("r"))["usage"]["calls"] == 3
    assert (await service.get("n")).get("usage") is None  # its own calls
    assert (await service.usage("n"))["total"]["calls"] == 3  # with everything below it
    by_tree = (await service.usage(group_by="tree"))["groups"]
    assert [(each["tree_id"], each["calls"]) for each in by_tree] == [("r", 3)]


async def test_a_budget_of_tokens_bounds_the_answer_of_a_call_without_a_limit(db: MemoryStore):
    unlimited = {"request": {"max_output_tokens": None}}
    await create(db, *tree(1, {"tokens": 50}, inputs=unlimited))
    await run(db)
    assert Calls.most == [40]
    await create(db, {"id": "c", "name": "calls", "budget": {"calls": 9}, "inputs": unlimited})
    await run(db, "c")
    assert Calls.most == [40, None]


async def test_a_budget_of_money_refuses_a_model_without_a_known_price(db: MemoryStore):
    await create(db, *tree(1, {"usd": 5}))
    tasks = await run(db)
    assert Calls.begun == []
    assert tasks["t0"].result["error_type"] == "ModelPriceUnknownError"
    assert "input_cost_per_token" in str(tasks["t0"].error)


async def test_without_a_budget_nothing_is_written_before_a_call(db: MemoryStore):
    await create(db, *tree(1, None))
    tasks = await run(db)
    assert tasks["t0"].status == "completed"
    assert await db.records("budget") == []


async def test_a_second_run_continues_the_account_of_the_first(db: MemoryStore):
    await create(db, *tree(2, {"calls": 2}))
    assert (await run(db))["r"].status == "completed"
    await TaskExecutor().execute_task_by_id("r", force=True, db_session=db)
    assert len(Calls.begun) == 2
    await TaskService(db).budget("r", calls=4)
    assert (await run(db))["r"].status == "completed"
    assert len(Calls.begun) == 4


# --- waiting -------------------------------------------------------------------------------------


async def test_calls_wait_until_the_budget_is_raised_and_then_go_on(db: MemoryStore):
    await create(db, *tree(4, {"calls": 2, "on_exceed": "wait"}))
    running = asyncio.create_task(run(db))
    await until(lambda: len(Calls.begun) == 2)
    await asyncio.sleep(0.3)
    assert (len(Calls.begun), running.done()) == (2, False)
    raised = await TaskService(db).budget("r", calls=10)
    assert raised["limits"] == {"calls": 10}
    tasks = await running
    assert {task.status for task in tasks.values()} == {"completed"}
    assert len(Calls.begun) == 4
    events = [each.type for each in await db.events("r")]
    assert "budget_exceeded" in events
    assert "budget_warning" in events


async def test_a_waiting_task_holds_no_place_among_the_calls(db: MemoryStore):
    other = {"id": "o", "name": "calls", "parent_id": "r", "inputs": {"times": 0}}
    array = [*tree(2, {"calls": 1, "on_exceed": "wait"}, priority=1), other]
    node = await TaskCreator(db).create_task_tree_from_array(array)
    running = asyncio.create_task(TaskManager(db, max_concurrency=1).distribute_task_tree(node))
    async with asyncio.timeout(30):
        while (await db.get(["o"]))["o"].status != "completed":
            await asyncio.sleep(0.01)
    assert (len(Calls.begun), running.done()) == (1, False)
    await TaskService(db).budget("r", calls=10)
    assert (await running)["status"] == "completed"
    assert len(Calls.begun) == 2


async def test_a_task_that_waits_does_not_hold_up_a_shutdown_and_waits_again_after_it(db: MemoryStore):
    await create(db, *tree(2, {"calls": 1, "on_exceed": "wait"}))
    worker = Worker(db)
    working = asyncio.create_task(worker.run())
    await submit(db, "r")
    await until_one_waits(db)
    worker.drain()
    async with asyncio.timeout(15):  # less than `shutdown_timeout`
        await working
    assert {task.status for task in await db.tree("r")} == {"completed", "in_progress", "pending"}
    await TaskService(db).budget("r", calls=2)
    worker = Worker(db)
    working = asyncio.create_task(worker.run())
    async with asyncio.timeout(30):
        while (await db.get(["r"]))["r"].run_ended_at is None:
            await asyncio.sleep(0.01)
    worker.drain()
    await working
    assert {task.status for task in await db.tree("r")} == {"completed"}
    assert (await state(db))["spent"]["calls"] == 2


async def test_a_waiting_task_is_cancelled_at_once_and_leaves_no_reservation(db: MemoryStore):
    await create(db, *tree(2, {"calls": 1, "on_exceed": "wait"}))
    running = asyncio.create_task(run(db))
    await until_one_waits(db)
    await TaskManager(db).cancel_task("r", "enough")
    tasks = await running
    assert sorted(task.status for task in tasks.values()) == ["cancelled", "cancelled", "completed"]
    found = await state(db)
    assert (found["spent"]["calls"], found["open_calls"], found["reserved"]["calls"]) == (1, 0, 0)


async def test_calls_wait_for_reservations_of_others_even_if_the_budget_says_fail(db: MemoryStore):
    goes_on = asyncio.Event()
    Calls.before_end = staticmethod(goes_on.wait)
    await create(db, *tree(3, {"tokens": 50}))  # each may use 20 and uses 15: 15 + 15 + 20 fit
    running = asyncio.create_task(run(db))
    await until(lambda: len(Calls.begun) == 2)
    await asyncio.sleep(0.2)
    assert (len(Calls.begun), running.done()) == (2, False)
    goes_on.set()
    assert (await running)["r"].status == "completed"
    assert (await state(db))["spent"]["tokens"] == 45


async def test_reservations_of_attempts_that_have_ended_do_not_hold_up_others(db: MemoryStore):
    await create(db, *tree(2, {"calls": 2}))
    goes_on = asyncio.Event()
    Calls.before_end = staticmethod(goes_on.wait)
    running = asyncio.create_task(run(db))
    await until(lambda: len(Calls.begun) == 2)
    # As if the process of one attempt had died: its reservation names an attempt that is over.
    [record] = await db.records("budget")
    value = record.value
    [call_id] = [each for each, call in value["open"].items() if call[0] == "t0"]
    value["open"]["dead"] = ["t0", 0, value["open"][call_id][2], {"calls": 1, "tokens": 20}]
    assert await db.put_record("budget", "r", value, version=record.version)
    found = await state(db)
    assert (found["open_calls"], found["lost"]["calls"]) == (2, 1)
    goes_on.set()
    await running
    await TaskService(db).budget("r", calls=3)
    found = await state(db)
    assert (found["spent"]["calls"], found["lost"]["calls"], found["left"]["calls"]) == (2, 1, 0)


# --- events and usage ----------------------------------------------------------------------------


async def test_one_warning_is_sent_at_the_share_that_the_setting_names(db: MemoryStore):
    await create(db, *tree(10, {"calls": 10}))
    with overridden_defaults(budget_warning_share=0.5):
        await run(db)
    warnings = [each for each in await db.events("r") if each.type == "budget_warning"]
    assert len(warnings) == 1
    assert (warnings[0].task_id, warnings[0].data["amount"], warnings[0].data["limit"]) == ("r", "calls", 10)
    assert warnings[0].data["charged"] >= 5
    numbers = [each.sequence for each in await db.events("r")]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_usage_is_in_events_and_in_results_of_tasks_that_did_not_complete(db: MemoryStore):
    await create(
        db, *tree(1, None), {"id": "f", "name": "calls", "parent_id": "r", "inputs": {"fails": True}}
    )
    tasks = await run(db)
    assert tasks["f"].result["token_usage"] == {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 0,
    }  # fmt: skip
    assert tasks["f"].result["cost_usd"] == 0.25
    assert tasks["t0"].result == {"done": True}
    ended = {
        each.task_id: each for each in await db.events("r") if each.type in ("task_completed", "task_failed")
    }
    assert ended["t0"].data["usage"]["total_tokens"] == 15
    assert ended["f"].data["usage"]["cost_usd"] == 0.25
    assert (await TaskService(db).get("f"))["usage"]["by_model"]["m"]["calls"] == 1


async def test_a_cancelled_task_says_what_its_calls_used(db: MemoryStore):
    started = asyncio.Event()

    async def hold() -> None:
        if len(Calls.begun) == 2:
            started.set()
            await asyncio.Event().wait()

    Calls.before_end = staticmethod(hold)
    await create(db, {"id": "r", "name": "calls", "inputs": {"times": 3}, "budget": {"calls": 5}})
    running = asyncio.create_task(run(db))
    await started.wait()
    await TaskManager(db).cancel_task("r", "enough")
    task = (await running)["r"]
    assert task.status == "cancelled"
    assert task.result["token_usage"]["total_tokens"] == 15
    found = await state(db)
    assert (found["spent"]["calls"], found["open_calls"]) == (2, 0)


async def test_usage_is_summed_up_by_task_user_and_model(db: MemoryStore):
    await create(db, {"id": "r", "name": "calls", "user_id": "ann", "inputs": {"times": 2}})
    await create(
        db, {"id": "q", "name": "calls", "user_id": "bob", "inputs": {"request": {"model": "other"}}}
    )
    for root_id in ("r", "q"):
        await run(db, root_id)
    service = TaskService(db)
    by_user = (await service.usage(group_by="user"))["groups"]
    assert [(each["user_id"], each["calls"]) for each in by_user] == [("ann", 2), ("bob", 1)]
    by_model = (await service.usage())["groups"]
    assert [(each["model"], each["total_tokens"]) for each in by_model] == [("m", 30), ("other", 15)]
    by_task = (await service.usage(user_id="ann", group_by="task"))["groups"]
    assert [(each["task_id"], each["cost_usd"]) for each in by_task] == [("r", 0.5)]
    bob = TaskService(db, "bob")
    assert (await bob.usage())["total"]["calls"] == 1
    for refused in (bob.usage("r"), bob.budget("r", calls=1)):
        with pytest.raises(NotFoundError):
            await refused
    with pytest.raises(ForbiddenError):
        await bob.usage(user_id="ann")
    await service.delete("r", force=True)
    assert (await service.usage())["total"]["calls"] == 3


async def test_code_in_threads_uses_the_same_account(db: MemoryStore):
    await create(db, {"id": "r", "name": "in_thread", "budget": {"tokens": 25}})
    assert (await run(db))["r"].result == 10
    assert (await state(db))["spent"]["tokens"] == 15


async def test_code_in_a_thread_that_waits_for_a_budget_is_cancelled(db: MemoryStore):
    await create(db, {"id": "r", "name": "in_thread", "budget": {"calls": 0, "on_exceed": "wait"}})
    running = asyncio.create_task(run(db))
    async with asyncio.timeout(30):
        while "budget_exceeded" not in [each.type for each in await db.events("r")]:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await TaskManager(db).cancel_task("r", "enough")
        assert (await running)["r"].status == "cancelled"
    found = await state(db)
    assert (found["open_calls"], found["reserved"]["calls"]) == (0, 0)


async def test_blocking_use_on_the_event_loop_is_refused(db: MemoryStore):
    class Blocks(BaseTask):
        id = "blocks"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            with model_call(request()):
                pass

    executor_register(Blocks)
    try:
        await create(db, {"id": "r", "name": "blocks"})
        task = (await run(db))["r"]
    finally:
        get_registry().unregister("blocks")
    assert "async with" in str(task.error)


def fail_in_a_call() -> None:
    with model_call(request(max_output_tokens=None)) as call:
        assert call.max_output_tokens is None
        raise ValueError("no")


async def test_outside_of_a_task_nothing_is_reserved_and_observers_see_the_call():
    seen: list[EndedModelCall] = []
    with observing_model_calls(seen.append):
        async with model_call(request()) as call:
            call.record(USED, ModelAnswer(model="m-1"))
        with pytest.raises(ValueError, match="no"):
            fail_in_a_call()
    assert [(each.usage.total_tokens, each.answer.model, each.error_type, each.task) for each in seen] == [
        (15, "m-1", None, None),
        (0, None, "ValueError", None),
    ]


async def test_prompts_are_shown_to_observers_only_if_a_setting_says_so_and_without_secrets(db: MemoryStore):
    seen: list[EndedModelCall] = []
    prompt = {"request": {"messages": [{"role": "user", "content": "hello"}]}}
    for number, is_shown in enumerate((False, True)):
        await create(db, {"id": f"r{number}", "name": "calls", "inputs": prompt})
        with overridden_defaults(trace_model_content=is_shown), observing_model_calls(seen.append):
            await run(db, f"r{number}")
    assert [each.request.messages for each in seen] == [None, [{"role": "user", "content": "hello"}]]
    assert seen[1].root is not None
    assert seen[1].root.id == "r1"


# --- giving budgets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        ({}, "must have a limit: one of usd, tokens, calls, seconds"),
        ({"on_exceed": "wait"}, "must have a limit"),
        ({"usd": -1}, "budget.usd must be a number of US dollars from 0"),
        ({"tokens": 1.5}, "budget.tokens must be an integer from 0"),
        ({"calls": True}, "budget.calls must be an integer from 0"),
        ({"usd": float("nan")}, "budget.usd must be"),
        ({"calls": 1, "on_exceed": "stop"}, "on_exceed must be one of fail, wait, not 'stop'"),
        ({"dollars": 1}, "budget has no key 'dollars'"),
        (5, "budget must be an object"),
    ],
)
async def test_a_budget_that_cannot_be_meant_is_refused_with_its_faults(
    db: MemoryStore, budget: Any, fault: str
):
    for given in ({"budget": budget}, {"policy": {"budget": budget}}):
        with pytest.raises(TreeInvalidError, match="budget") as caught:
            await create(db, {"name": "calls", **given})
        assert any(fault in each for each in caught.value.violations), caught.value.violations


async def test_a_budget_beside_the_policy_is_a_part_of_it(db: MemoryStore):
    await create(db, {"id": "r", "name": "calls", "policy": {"timeout": 5}, "budget": {"calls": 1}})
    [task] = await db.tree("r")
    assert task.policy == {"timeout": 5, "budget": {"calls": 1}}
    with pytest.raises(TreeInvalidError, match="differ"):
        await create(db, {"name": "calls", "policy": {"budget": {"calls": 2}}, "budget": {"calls": 1}})


async def test_a_task_gets_a_budget_later_unless_its_tree_runs(db: MemoryStore):
    await create(db, *tree(1, None))
    service = TaskService(db)
    with pytest.raises(InvalidInputError, match=r"has no budget\. Give a limit"):
        await service.budget("r")
    goes_on = asyncio.Event()
    Calls.before_end = staticmethod(goes_on.wait)
    running = asyncio.create_task(run(db))
    await until(lambda: len(Calls.begun) == 1)
    with pytest.raises(ConflictError):
        await service.budget("r", calls=5)
    goes_on.set()
    await running
    found = await service.budget("r", calls=5, on_exceed="wait")
    assert (found["limits"], found["on_exceed"]) == ({"calls": 5}, "wait")
    assert (await service.get("r"))["budget_state"]["limits"] == {"calls": 5}


async def test_a_copy_has_the_budget_and_an_unused_account(db: MemoryStore):
    await create(db, *tree(1, {"calls": 1}))
    await run(db)
    service = TaskService(db)
    copy = await service.copy("r")
    assert copy["policy"]["budget"] == {"calls": 1}
    assert (await service.budget(copy["id"]))["spent"]["calls"] == 0


async def test_what_was_read_of_a_task_can_be_given_back(db: MemoryStore):
    await create(db, *tree(0, {"calls": 1}), {"id": "t0", "name": "calls", "parent_id": "r"})
    await run(db)
    service = TaskService(db)
    found = await service.get("r")
    assert {"usage", "budget_state"} <= found.keys()
    await service.create([{**found, "id": "again", "root_id": "again", "status": "pending", "result": None}])
