"""A resolved secret stays inside the execution: whatever becomes of the task, it turns up nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskExecutor,
    TaskManager,
    clear_hooks,
    executor_register,
    get_registry,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
)
from apflow.core.model.task import Task

SECRET = "hunter2-is-no-password"
PARAM = "a-key-of-eighteen!"


class Leaks(BaseTask):
    """Leaks its secrets in every possible way."""

    id = "test_leaks"
    started: asyncio.Event
    seen: list[tuple[Any, Any]] = []

    def __init__(self, key: Any = None) -> None:
        self.key = key

    async def execute(self, inputs: dict[str, Any]) -> Any:
        secret = inputs["secret"]
        self.seen.append((secret, self.key))
        said = f"with {secret} and {self.key}"
        assert self.event_queue is not None
        await self.report_progress(0.5, f"going {said}", {"said": [said], said: 1})
        self.event_queue.put_nowait({"type": "log", "message": f"log {said}"})
        self.event_queue.put_nowait({"type": "log", "message": f"log again {said}"})
        match inputs.get("do"):
            case "raise":
                raise ValueError(f"failed {said}")
            case "return a failure":
                return {"status": "failed", "error": f"failed {said}", "error_type": said, "why": said}
            case "wait":
                Leaks.started.set()
                await asyncio.Event().wait()
            case "no json":
                return {said: object()}
            case "retry" if self.attempts == 1:
                raise ConnectionError(f"failed {said}")
            case _:
                pass
        return {"said": said, "deep": [{said: (inputs, self.key)}]}

    async def cancel(self) -> Any:
        return {"partial_result": {"key": self.key}, "token_usage": {SECRET: 1}}


class FailsToCancel(Leaks):
    """Leaks its secret in the log of a failed `cancel`."""

    id = "test_fails_to_cancel"

    async def cancel(self) -> Any:
        raise RuntimeError(f"cannot cancel with {self.key}")


@pytest.fixture(autouse=True)
async def started() -> None:
    Leaks.started = asyncio.Event()


@pytest.fixture(autouse=True)
def executors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("APFLOW_SECRET_TEST_SECRET", SECRET)
    monkeypatch.setenv("APFLOW_SECRET_TEST_PARAM", PARAM)
    Leaks.seen.clear()
    for each in (Leaks, FailsToCancel):
        executor_register(each, override=True)
    yield
    for each in (Leaks, FailsToCancel):
        get_registry().unregister(each.id)
    clear_hooks()


class Witness:
    """Everything that leaves the execution of one tree."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.db = MemoryStore()
        self.told: list[Any] = []
        self.hooked: list[Any] = []
        self.caplog = caplog
        register_pre_hook(self.before)
        register_post_hook(self.after)
        for event in ("on_tree_completed", "on_tree_failed", "on_tree_cancelled"):
            register_task_tree_hook(event, lambda root, detail: self.hooked.append([root.to_dict(), detail]))

    def before(self, task: Task) -> None:
        self.hooked.append(["before", task.to_dict()])

    def after(self, task: Task, inputs: Any, result: Any) -> None:
        self.hooked.append(["after", task.to_dict(), inputs, result])

    async def run(self, executor: str = "test_leaks", **more: Any) -> Any:
        inputs = {"secret": {"$secret": "TEST_SECRET"}, "do": more.pop("do", None)}
        params = {"key": {"$secret": "TEST_PARAM"}}
        task = {"id": "a", "name": executor, "inputs": inputs, "params": params, **more}
        return await TaskExecutor().execute_tasks(
            [task], use_streaming=True, streaming_callbacks_context=self.told.append, db_session=self.db
        )

    async def everything(self, *answers: Any) -> str:
        stored = [task.to_dict() for task in await self.db.tree("a")]
        events = [event.to_dict() for event in await self.db.events("a")]
        whole = [stored, events, self.told, self.hooked, answers]
        return json.dumps(whole, default=str) + self.caplog.text

    async def assert_nothing_leaked(self, *answers: Any) -> str:
        everything = await self.everything(*answers)
        assert SECRET not in everything
        assert PARAM not in everything
        return everything


@pytest.fixture
def witness(caplog: pytest.LogCaptureFixture) -> Witness:
    return Witness(caplog)


@pytest.mark.parametrize(
    ("do", "status"),
    [
        (None, "completed"),
        ("raise", "failed"),
        ("return a failure", "failed"),
        ("no json", "failed"),
        ("retry", "completed"),
    ],
)
async def test_a_secret_turns_up_nowhere_however_the_task_ends(witness: Witness, do: str | None, status: str):
    answer = await witness.run(do=do, policy={"retry": {"max_attempts": 2, "delay": 0.001}})
    assert answer["status"] == status
    assert Leaks.seen[0] == (SECRET, PARAM)
    everything = await witness.assert_nothing_leaked(answer)
    assert "***" in everything
    kinds = [event["type"] for event in witness.told]
    assert "progress" in kinds
    assert "log" in kinds


async def test_hooks_see_the_reference_and_never_the_value(witness: Witness):
    await witness.run()
    after = next(each for each in witness.hooked if each[0] == "after")
    assert after[2]["secret"] == {"$secret": "TEST_SECRET"}
    assert after[1]["params"] == {"key": {"$secret": "TEST_PARAM"}}


@pytest.mark.parametrize("is_forced", [True, False])
async def test_what_a_cancelled_task_leaves_holds_no_secret(witness: Witness, is_forced: bool):
    running = asyncio.create_task(witness.run(do="wait"))
    await Leaks.started.wait()
    answer = await TaskManager(witness.db).cancel_task("a", force=is_forced)
    assert answer["result"]["partial_result"] == {"key": "***"}
    await witness.assert_nothing_leaked(answer, await running)


async def test_cancelling_the_caller_leaves_no_secret(witness: Witness):
    running = asyncio.create_task(witness.run(do="wait"))
    await Leaks.started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await witness.assert_nothing_leaked()


async def test_a_cancel_that_fails_logs_no_secret(witness: Witness):
    running = asyncio.create_task(witness.run("test_fails_to_cancel", do="wait"))
    await Leaks.started.wait()
    answer = await TaskManager(witness.db).cancel_task("a")
    everything = await witness.assert_nothing_leaked(answer, await running)
    assert "cannot cancel with ***" in everything


async def test_bad_inputs_are_told_without_the_secret(witness: Witness):
    schema = {"type": "object", "properties": {"secret": {"type": "integer"}}}
    answer = await witness.run(schemas={"input_schema": schema})
    assert answer["status"] == "failed"
    await witness.assert_nothing_leaked(answer)


async def test_a_result_that_violates_its_schema_is_told_without_the_secret(witness: Witness):
    schema = {"type": "object", "properties": {"said": {"type": "integer"}}}
    answer = await witness.run(schemas={"output_schema": schema})
    assert answer["status"] == "failed"
    await witness.assert_nothing_leaked(answer)


async def test_what_a_dependency_returns_asks_for_no_secret(witness: Witness):
    class Asks(BaseTask):
        id = "test_asks"

        async def execute(self, inputs: dict[str, Any]) -> Any:
            return {"$secret": "TEST_SECRET"}

    executor_register(Asks, override=True)
    uses = {"parent_id": "a", "dependencies": ["a"], "inputs": {"secret": {"$from": "a"}}}
    array = [{"id": "a", "name": "test_asks"}, {"id": "b", "name": "test_leaks", **uses}]
    node = await TaskCreator(witness.db).create_task_tree_from_array(array)
    await TaskManager(witness.db).distribute_task_tree(node)
    get_registry().unregister("test_asks")
    assert Leaks.seen == [({"$secret": "TEST_SECRET"}, None)]
    assert SECRET not in await witness.everything()


async def test_a_missing_secret_fails_the_task_before_its_code(
    witness: Witness, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("APFLOW_SECRET_TEST_SECRET")
    answer = await witness.run()
    assert answer["status"] == "failed"
    assert "TEST_SECRET" in answer["error"]
    assert Leaks.seen == []
    assert PARAM not in await witness.everything(answer)
