"""Calls that a runner makes elsewhere: both sides here, with JSON text between them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskManager,
    clear_hooks,
    executor_register,
    get_registry,
)
from apflow.core.concurrency import exit_fence
from apflow.core.concurrency.containment import INSIST_SECONDS
from apflow.core.engine import active_runs
from apflow.core.engine.call_server import CallServer
from apflow.core.errors import CallLostError, RunnerUnavailableError, TreeInvalidError
from apflow.core.extensions.executor_call import ExecutorCall, Message, Receive, columns_of
from apflow.core.extensions.hooks import register_post_hook, register_pre_hook
from apflow.core.model.log import LogQuery
from apflow.core.model.task import Json, Task
from apflow.core.settings import overridden_defaults
from apflow.testing.runner import RunnerContract, registered_executors
from apflow.testing.virtual_time import VirtualTimeLoop

logger = logging.getLogger(__name__)


class TextRunner:
    """Serves calls in this process; all that passes between the two sides is JSON text."""

    def __init__(self) -> None:
        self.calls: list[ExecutorCall] = []
        self.losses = 0  # how many calls are lost at their end
        self.is_unavailable = False
        self._servers: WeakKeyDictionary[asyncio.AbstractEventLoop, CallServer] = WeakKeyDictionary()

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        if self.is_unavailable:
            raise RunnerUnavailableError("No worker answers.")
        loop = asyncio.get_running_loop()
        server = self._servers.setdefault(loop, CallServer())

        def send(message: Message) -> None:
            text = json.dumps(message)
            loop.call_soon(lambda: receive(json.loads(text)))

        served = ExecutorCall.from_json(json.loads(json.dumps(call.to_json())))
        self.calls.append(served)
        outcome = json.loads(json.dumps(await server.serve(served, send)))
        await asyncio.sleep(0)  # the messages before it have arrived
        if self.losses:
            self.losses -= 1
            raise CallLostError("worker 1", "it has ended.")
        return outcome

    async def send(self, call_id: str, message: Message) -> bool:
        server = self._servers[asyncio.get_running_loop()]
        return server.receive(call_id, json.loads(json.dumps(message)))

    async def close(self) -> None:
        pass


class Does(BaseTask):
    """Does what `do` says."""

    id = "does"
    name = "Does"
    description = "Does what `do` says"
    calls: list[str] = []
    asked: list[str] = []

    async def execute(self, inputs: dict[str, Any]) -> Any:
        assert self.task_id is not None
        assert self.task is not None
        self.calls.append(self.task_id)
        match inputs.get("do"):
            case "fail":
                raise LookupError("as asked")
            case "wait":
                folder = Path(inputs["folder"])
                folder.joinpath("began").touch()
                try:
                    await asyncio.Event().wait()
                finally:
                    folder.joinpath("ended").write_text(str(self.is_continued))
            case "log":
                logger.warning("a record with %s", inputs["secret"])
                self.log("a line")
                print("printed")
            case "report":
                await self.report_progress(0.5, "half of it", {"n": 1})
                return {"progress": 0.5}
            case "child":
                array = [{"id": "c", "name": "c", "params": {"executor_id": "does"}, "inputs": {"x": 5}}]
                outcome = await self.run_child(array)
                return {"status": outcome["status"], "x": outcome.results["c"]["inputs"]["x"]}
            case "bad child":
                await self.run_child([{"id": "c", "name": "c", "parent_id": "missing"}])
            case "save":
                before = await self.saved_state()
                await self.save_state({"at": 3})
                return {"before": before, "after": await self.saved_state()}
            case _:
                pass
        return {
            "inputs": inputs,
            "results": dict(self.dependency_results),
            "user": self.user_id,
            "key": self.idempotency_key,
            "name": self.task.name,
        }

    async def cancel(self) -> Any:
        assert self.task_id is not None
        self.asked.append(self.task_id)
        return {"partial_result": "some"}


class Once(Does):
    id = "does_once"
    effect = "once"


class Needy(Does):
    id = "needy"
    inputs_schema = {
        "type": "object",
        "properties": {"number": {"type": "integer"}, "more": {"type": "integer", "default": 7}},
        "required": ["number"],
    }


@pytest.fixture(autouse=True)
def executors() -> Iterator[None]:
    Does.calls.clear()
    Does.asked.clear()
    for each in (Does, Once, Needy):
        executor_register(each, override=True)
    yield
    for each in (Does, Once, Needy):
        get_registry().unregister(each.id)
    clear_hooks()


class TestTextRunner(RunnerContract):
    def make_runner(self) -> TextRunner:
        return TextRunner()


class Deaf(TextRunner):
    """Passes no messages of the call on."""

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        return await super().run(call, lambda _: None)


class Mute(TextRunner):
    """Sends nothing to the call."""

    async def send(self, call_id: str, message: Message) -> bool:
        return False


class ContractOf(RunnerContract):
    within = 2.0

    def __init__(self, kind: type[TextRunner]) -> None:
        self._kind = kind

    def make_runner(self) -> TextRunner:
        return self._kind()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Deaf, "test_progress_and_log_lines_arrive"),
        (Deaf, "test_the_code_uses_the_store_of_its_tree"),
        (Mute, "test_the_code_uses_the_store_of_its_tree"),
    ],
)
async def test_the_contract_catches_a_runner_that_loses_messages(kind: type[TextRunner], test: str):
    with registered_executors(), pytest.raises((AssertionError, ValueError, TimeoutError)):
        await getattr(ContractOf(kind), test)()


@pytest.fixture
def runner() -> TextRunner:
    return TextRunner()


async def run(
    runner: TextRunner, *tasks: dict[str, Any], db: MemoryStore | None = None, **root: Any
) -> dict[str, Task]:
    """Run a tree; return its tasks by key. Without `tasks`, the tree has one task, `t`."""
    db = db or MemoryStore()
    array = tasks or ({"id": "t", "name": "t", "params": {"executor_id": "does"}, **root},)
    node = await TaskCreator(db).create_task_tree_from_array(list(array), user_id="ann")
    await TaskManager(db, runner=runner).distribute_task_tree(node)
    return {task.key: task for task in await db.tree(node.task.id)}


async def test_a_call_elsewhere_sees_what_a_call_here_sees(runner: TextRunner):
    first = {"id": "a", "name": "a", "params": {"executor_id": "does"}, "inputs": {"x": 1}, "parent_id": "r"}
    second = {
        "id": "r",
        "name": "r",
        "params": {"executor_id": "does"},
        "inputs": {"of": {"$from": "a", "path": "inputs.x"}},
        "dependencies": [{"id": "a"}],
    }
    elsewhere = await run(runner, second, first)
    here = await run(None, second, first)  # type: ignore[arg-type] - the local runner
    for key in ("a", "r"):
        ids = {task.id: task.key for task in (*elsewhere.values(), *here.values())}
        shown, expected = (_without_ids(tasks[key].result, ids) for tasks in (elsewhere, here))
        assert shown == expected
    assert elsewhere["r"].result["inputs"]["of"] == 1
    assert len(runner.calls) == 2


def _without_ids(value: Any, keys: Mapping[str, str]) -> Any:
    text = json.dumps(value, sort_keys=True)
    for task_id, key in keys.items():
        text = text.replace(task_id, key)
    return json.loads(text)


async def test_an_error_elsewhere_fails_the_task_with_its_traceback(runner: TextRunner):
    db = MemoryStore()
    task = (await run(runner, db=db, inputs={"do": "fail"}))["t"]
    assert task.status == "failed"
    assert task.result["error_type"] == "LookupError"
    [attempt] = await db.attempts(task.id)
    assert attempt.traceback is not None
    assert 'raise LookupError("as asked")' in attempt.traceback


async def test_inputs_are_validated_and_completed_elsewhere(runner: TextRunner):
    good = await run(runner, params={"executor_id": "needy"}, inputs={"number": 1})
    assert good["t"].result["inputs"] == {"number": 1, "more": 7}
    runner.calls.clear()
    bad = {"id": "t", "name": "t", "params": {"executor_id": "needy"}, "dependencies": [{"id": "a"}]}
    first = {"id": "a", "name": "a", "params": {"executor_id": "does"}, "parent_id": "t"}
    failed = await run(runner, {**bad, "inputs": {"number": {"$from": "a", "path": "user"}}}, first)
    assert failed["t"].result["error_type"] == "ValidationError"


async def test_secrets_are_resolved_and_masked_elsewhere(runner: TextRunner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_SECRET_TOKEN", "s3cr3t-value")
    db = MemoryStore()
    task = (await run(runner, db=db, inputs={"do": "log", "secret": {"$secret": "token"}}))["t"]
    assert task.result["inputs"]["secret"] == "***"
    [call] = runner.calls
    assert "s3cr3t-value" not in json.dumps(call.to_json())
    lines = [line.entry.message for line in await db.logs(LogQuery(root_task_id=task.root_id))]
    assert lines == ["a record with ***", "a line", "printed"]


async def test_progress_arrives(runner: TextRunner):
    events: list[dict[str, Any]] = []
    db = MemoryStore()
    node = await TaskCreator(db).create_task_tree_from_array(
        [{"id": "t", "name": "t", "params": {"executor_id": "does"}, "inputs": {"do": "report"}}]
    )
    manager = TaskManager(db, runner=runner)
    manager.streaming_callbacks.add(events.append)
    await manager.distribute_task_tree_with_streaming(node)
    [progress] = [each for each in events if each["type"] == "progress"]
    assert (progress["progress"], progress["message"], progress["data"]) == (0.5, "half of it", {"n": 1})


async def test_code_elsewhere_uses_the_store_of_its_tree(runner: TextRunner):
    db = MemoryStore()
    task = (await run(runner, db=db, inputs={"do": "child"}))["t"]
    assert task.result == {"status": "completed", "x": 5}
    assert task.child_trees is not None
    [entry] = task.child_trees
    child = (await db.get([entry["id"]]))[entry["id"]]
    assert child.spawned_by == task.id
    assert (await run(runner, inputs={"do": "save"}))["t"].result == {"before": None, "after": {"at": 3}}


async def test_errors_of_the_store_are_raised_in_the_code_elsewhere(runner: TextRunner):
    task = (await run(runner, inputs={"do": "bad child"}))["t"]
    assert task.result["error_type"] == TreeInvalidError.__name__
    assert "missing" in str(task.error)


async def test_hooks_are_called_by_the_owner(runner: TextRunner):
    seen: list[Any] = []

    def before(task: Task) -> None:
        task.inputs["added"] = 2

    def after(task: Task, inputs: dict[str, Any], result: Any) -> None:
        seen.append((task.key, inputs, result["inputs"]))

    register_pre_hook(before)
    register_post_hook(after)
    task = (await run(runner, inputs={"x": 1}))["t"]
    assert task.result["inputs"] == {"x": 1, "added": 2}
    assert seen == [("t", {"x": 1, "added": 2}, {"x": 1, "added": 2})]


async def test_a_timeout_ends_the_code_elsewhere(runner: TextRunner, tmp_path: Path):
    inputs = {"do": "wait", "folder": str(tmp_path)}
    task = (await run(runner, inputs=inputs, policy={"timeout": 0.1}))["t"]
    assert task.result["error_type"] == "TimeoutError"
    assert (tmp_path / "ended").exists()


async def waiting_task(
    runner: TextRunner, db: MemoryStore, folder: Path
) -> tuple[TaskManager, str, asyncio.Task[Any]]:
    """Run a tree of one task, and wait until its code has begun to wait."""
    inputs = {"do": "wait", "folder": str(folder)}
    array = [{"id": "t", "name": "t", "params": {"executor_id": "does"}, "inputs": inputs}]
    node = await TaskCreator(db).create_task_tree_from_array(array)
    manager = TaskManager(db, runner=runner)
    running = asyncio.create_task(manager.distribute_task_tree(node))
    while not (folder / "began").exists():
        await asyncio.sleep(0.01)
    return manager, node.task.id, running


async def test_a_cancellation_reaches_the_executor_and_its_code(runner: TextRunner, tmp_path: Path):
    db = MemoryStore()
    async with asyncio.timeout(10):
        manager, root_id, running = await waiting_task(runner, db, tmp_path)
        answer = await manager.cancel_task(root_id)
        await running
    assert answer["status"] == "cancelled"
    assert answer["result"]["partial_result"] == "some"
    assert Does.asked == [root_id]
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("is_drained", [True, False])
async def test_code_that_is_ended_knows_whether_another_attempt_continues_its_work(
    runner: TextRunner, tmp_path: Path, is_drained: bool
):
    db = MemoryStore()
    async with asyncio.timeout(10):
        manager, root_id, running = await waiting_task(runner, db, tmp_path)
        if is_drained:
            [run] = active_runs.all_running(db)
            run.drain(0)
        else:
            await manager.cancel_task(root_id, force=True)
        await running
    assert (tmp_path / "ended").read_text() == str(is_drained)
    task = (await db.get([root_id]))[root_id]
    assert task.status == ("pending" if is_drained else "cancelled")


async def test_a_lost_call_is_made_again_where_its_effect_allows_it(runner: TextRunner):
    runner.losses = 1
    task = (await run(runner))["t"]
    assert task.status == "completed"
    assert len(Does.calls) == 2
    assert len({call.id for call in runner.calls}) == 2


async def test_a_lost_call_of_effect_once_is_not_made_again(runner: TextRunner):
    runner.losses = 1
    task = (await run(runner, params={"executor_id": "does_once"}))["t"]
    assert task.result["error_type"] == "Interrupted"
    assert "worker 1" in str(task.error)
    assert len(Does.calls) == 1


async def test_a_call_that_is_always_lost_fails(runner: TextRunner):
    runner.losses = 100
    assert (await run(runner))["t"].result["error_type"] == "Interrupted"
    assert len(Does.calls) == 3


async def test_a_runner_that_makes_no_calls_fails_the_task_with_its_message(runner: TextRunner):
    runner.is_unavailable = True
    task = (await run(runner))["t"]
    assert task.result["error_type"] == "RunnerUnavailable"
    assert task.error == "No worker answers."


async def test_what_no_other_process_can_import_is_called_here(runner: TextRunner):
    class Local(Does):
        id = "local_only"

    executor_register(Local, override=True)
    try:
        assert (await run(runner, params={"executor_id": "local_only"}))["t"].status == "completed"
    finally:
        get_registry().unregister("local_only")
    assert runner.calls == []


@pytest.mark.parametrize(
    ("code", "error_type"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("raise LookupError('no')", "LookupError"),
        ("", "ExecutorNotFound"),
    ],
)
async def test_a_module_that_cannot_be_imported_elsewhere_fails_the_task(
    runner: TextRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, error_type: str
):
    (tmp_path / "odd_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_module", raising=False)
    call = ExecutorCall(
        id="1",
        executor_id="not registered",
        import_path="odd_module:Missing",
        task=columns_of(Task(id="t", name="t", root_id="t", executor="not registered", attempts=1)),
    )
    outcome = await runner.run(call, lambda _: None)
    assert (outcome["status"], outcome["error_type"]) == ("failed", error_type)


async def test_another_executor_with_the_same_id_elsewhere_is_not_called(runner: TextRunner):
    call = ExecutorCall(
        id="1",
        executor_id="does",
        import_path="another_module:Does",
        task=columns_of(Task(id="t", name="t", root_id="t", executor="does", attempts=1)),
    )
    outcome = await runner.run(call, lambda _: None)
    assert outcome["error_type"] == "ExtensionTakenError"
    assert Does.calls == []


async def test_the_authors_of_a_tree_are_those_that_its_owner_knows(runner: TextRunner):
    """A tree of a user without stored authors is that user's own where callers have tokens."""
    with overridden_defaults(jwt_secret="s" * 32):
        await run(runner)
    [call] = runner.calls
    assert call.written_by == [{"user": "ann", "roles": []}]


@pytest.mark.parametrize(
    ("owners", "servers"), [(["needy"], None), (["does"], ["needy"]), (["does"], ["d*"])]
)
async def test_a_call_needs_the_permission_of_its_owner_and_of_the_process_that_makes_it(
    owners: list[str], servers: list[str] | None
):
    task = Task(id="t", name="t", root_id="t", executor="does", attempts=1)
    call = ExecutorCall(
        id="1",
        executor_id="does",
        import_path=None,
        task=columns_of(task),
        allowed_capabilities={"executors": owners},
    )
    allowed = json.dumps({"executors": servers}) if servers else ""
    with overridden_defaults(allowed_capabilities=allowed):
        outcome = await CallServer().serve(call, lambda _: None)
    is_allowed = servers == ["d*"]
    assert outcome["error_type"] == (None if is_allowed else "CapabilityRefusedError")
    assert len(Does.calls) == is_allowed


async def test_the_owner_sends_what_it_allows(runner: TextRunner):
    allowed = {"executors": ["does"], "hosts": ["*.example.com"]}
    with overridden_defaults(allowed_capabilities=json.dumps(allowed)):
        assert (await run(runner))["t"].status == "completed"
    [call] = runner.calls
    assert call.allowed_capabilities == allowed


async def test_many_calls_at_once_do_not_mix(runner: TextRunner):
    tasks = [{"id": "r", "name": "r", "params": {"executor_id": "does"}}]
    tasks += [
        {"id": f"t{n}", "name": "t", "params": {"executor_id": "does"}, "parent_id": "r", "inputs": {"n": n}}
        for n in range(50)
    ]
    done = await run(runner, *tasks)
    assert [done[f"t{n}"].result["inputs"]["n"] for n in range(50)] == list(range(50))


class Sleeps(BaseTask):
    """Sleeps, and has no `cancel`."""

    id = "sleeps"
    begun = 0

    async def execute(self, inputs: dict[str, Any]) -> Any:
        Sleeps.begun += 1
        await asyncio.Event().wait()


def test_the_code_of_a_cancelled_task_ends_without_a_wait():
    """Only waits take virtual time: none is for the answer of an executor that has no `cancel`."""

    async def work() -> float:
        async with MemoryStore() as db:
            array = [{"id": "t", "name": "t", "params": {"executor_id": Sleeps.id}}]
            node = await TaskCreator(db).create_task_tree_from_array(array)
            manager = TaskManager(db, runner=TextRunner())
            running = asyncio.create_task(manager.distribute_task_tree(node))
            while not Sleeps.begun:
                await asyncio.sleep(0)
            begin = asyncio.get_running_loop().time()
            answer = await manager.cancel_task(node.task.id)
            seconds = asyncio.get_running_loop().time() - begin
            await running
            assert answer["status"] == "cancelled"
            return seconds

    executor_register(Sleeps)
    try:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(work()) < INSIST_SECONDS / 2
    finally:
        get_registry().unregister(Sleeps.id)


class Reconnecting(TextRunner):
    """Has a task for its connection, which each call cancels and replaces, as if it had lost it."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: asyncio.Task[Any] | None = None
        self.closed = 0

    async def run(self, call: ExecutorCall, receive: Receive) -> Mapping[str, Json]:
        if self.connection is not None:
            self.connection.cancel()
            await asyncio.wait({self.connection}, timeout=5)
            self.closed += self.connection.cancelled()
        self.connection = asyncio.create_task(asyncio.sleep(60))
        return await super().run(call, receive)


def test_a_runner_ends_what_an_earlier_call_has_created():
    runner = Reconnecting()

    async def run() -> None:
        db = MemoryStore()
        array = [{"id": "root", "name": "root"}]
        array += [
            {
                "id": f"t{n}",
                "name": "t",
                "parent_id": "root",
                "params": {"executor_id": Once.id},
                "dependencies": [f"t{n - 1}"] if n else [],
            }
            for n in range(3)
        ]
        node = await TaskCreator(db).create_task_tree_from_array(array)
        await TaskManager(db, runner=runner).distribute_task_tree(node)

    exit_fence.run(run())  # as commands of apflow do: there, users' code cancels no task of the process
    assert (len(runner.calls), runner.closed) == (3, 2)
