"""Users' code that leaves by an unusual door, at every place where it is called.

Each place is tried with each way of leaving, in a worker that runs a second tree at the same time and a third
one afterwards: the task ends as it should, and no other task is affected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest

from apflow.core import (
    BaseTask,
    MemoryStore,
    TaskCreator,
    TaskTreeNode,
    Worker,
    executor_register,
    get_registry,
    register_post_hook,
    register_pre_hook,
    submit,
)
from apflow.core.engine.driver import Driver, cancel
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.description import describe_executor
from apflow.core.extensions.hooks import clear_hooks, register_task_tree_hook
from apflow.core.extensions.runner import LocalRunner
from apflow.core.extensions.tools import Tool, get_tool, tool_register
from apflow.core.manager import TaskManager
from apflow.core.model.task import Task
from apflow.core.settings import Settings, overridden_defaults


class Panic(BaseException):
    """As a panic of a Rust library arrives."""


def raising(error: BaseException) -> Callable[[], Any]:
    def leave() -> Any:
        raise error

    return leave


def cancel_own_task() -> None:
    current = asyncio.current_task()
    assert current is not None
    current.cancel()


def block() -> None:
    time.sleep(BLOCKED)


BLOCKED = 0.2

# What sync code does, and how a task whose executor does it ends: an error type, or None.
SYNC: dict[str, tuple[Callable[[], Any], str | None]] = {
    "exception": (raising(ValueError("no")), "ValueError"),
    "base exception": (raising(Panic("no")), "Panic"),
    "SystemExit": (raising(SystemExit(2)), "SystemExit"),
    "SystemExit(0)": (raising(SystemExit(0)), "SystemExit"),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "CancelledError": (raising(asyncio.CancelledError()), "CancelledError"),
    "group": (raising(BaseExceptionGroup("many", [SystemExit(1), Panic("no")])), "BaseExceptionGroup"),
    "cancels its task": (cancel_own_task, None),
    "blocks": (block, None),
}


async def wait_cancelled() -> None:
    """An old timeout: cancels its task later, and never calls `uncancel`."""
    asyncio.get_running_loop().call_later(0.01, cancel_own_task_of(asyncio.current_task()))
    await asyncio.sleep(5)


def cancel_own_task_of(task: asyncio.Task[Any] | None) -> Callable[[], object]:
    assert task is not None
    return task.cancel


async def swallow() -> None:
    for _ in range(3):
        with suppress(asyncio.CancelledError):
            await wait_cancelled()


async def cancel_and_wait() -> None:
    cancel_own_task()
    await asyncio.sleep(0)


ASYNC: dict[str, tuple[Callable[[], Any], str | None]] = {
    "is cancelled while it waits": (wait_cancelled, "CancelledError"),
    "swallows cancellations": (swallow, None),
    "cancels its task and waits": (cancel_and_wait, "CancelledError"),
}

leave: Callable[[], Any] = lambda: None  # noqa: E731 - what the place under test does
place = ""


async def act(here: str) -> None:
    if place == here:
        done = leave()
        if asyncio.iscoroutine(done):
            await done


class Odd(BaseTask):
    """Does what the test asks for, at the place that it asks for."""

    id = "odd"
    name = description = "Odd"

    def __init__(self, **params: Any) -> None:
        if place == "__init__":
            leave()
        super().__init__(**params)

    def get_input_schema(self) -> dict[str, Any]:
        if place == "get_input_schema":
            leave()
        return {"type": "object"}

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await act("execute")
        if place == "tool":
            await get_tool("odd_tool").execute({})
        if inputs.get("fail"):
            raise ValueError("as planned")
        if inputs.get("hang"):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return {"done": True}

    async def cancel(self) -> dict[str, Any]:
        await act("cancel")
        return {}


class OddTool(Tool):
    id = "odd_tool"
    name = description = "Odd"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        del inputs
        await act("tool")


class Plain(BaseTask):
    id = "plain"
    name = description = "Plain"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(inputs.get("seconds", 0.005))
        return {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for executor in (Odd, Plain):
        executor_register(executor, override=True)
    tool_register(OddTool, override=True)
    clear_hooks()
    yield
    clear_hooks()
    get_registry().unregister("odd")
    get_registry().unregister("plain")
    get_registry().unregister("odd_tool")
    arrange("", lambda: None)


def arrange(where: str, how: Callable[[], Any]) -> None:
    global place, leave
    place, leave = where, how


def chain(root_id: str, seconds: float = 0.005, **all_have: Any) -> list[dict[str, Any]]:
    def task(name: str, **more: Any) -> dict[str, Any]:
        more |= {"inputs": {"seconds": seconds}, **all_have}
        return {"id": f"{root_id}-{name}", "name": name, "parent_id": root_id, **more, **PLAIN}

    return [
        {"id": root_id, "name": "root", **PLAIN},
        *(task(str(n), dependencies=[f"{root_id}-{n - 1}"] if n else []) for n in range(5)),
    ]


PLAIN: dict[str, Any] = {"schemas": {"method": "plain"}}
ODD: dict[str, Any] = {"schemas": {"method": "odd"}}


async def status(db: MemoryStore, task_id: str) -> str:
    return str((await db.get([task_id]))[task_id].status)


async def run_odd(
    inputs: dict[str, Any] | None = None, *, is_cancelled: bool = False, beside: dict[str, Any] | None = None
) -> Task:
    """Run a tree with the odd task beside another tree, and one more afterwards, in one worker."""
    db = MemoryStore()
    worker = Worker(db, Settings(shutdown_timeout=5, cancel_grace=1.0))
    working = asyncio.create_task(worker.run(), name="worker of the test")
    async with asyncio.timeout(30):
        odd = [
            {"id": "odd", "name": "group"},
            {"id": "it", "name": "it", "parent_id": "odd", "inputs": inputs or {}, **ODD},
            {"id": "sibling", "name": "sibling", "parent_id": "odd", **PLAIN},
        ]
        await create_and_submit(db, odd)
        await create_and_submit(db, chain("beside", **(beside or {})))
        if is_cancelled:
            while await status(db, "it") != "in_progress":
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            await cancel(Driver(db), "it", None, is_forced=False)
        for each in ("odd", "beside"):
            await wait_for_end(db, each)
        arrange("", lambda: None)
        await create_and_submit(db, chain("after"))
        await wait_for_end(db, "after")
        assert not working.done()
        worker.drain()
        await working
    for tree in ("beside", "after"):
        assert {str(task.status) for task in await db.tree(tree)} == {"completed"}
    assert await status(db, "sibling") == "completed"
    return (await db.get(["it"]))["it"]


async def create_and_submit(db: MemoryStore, tasks: list[dict[str, Any]]) -> None:
    await TaskCreator(db).create_task_tree_from_array(tasks)
    await submit(db, tasks[0]["id"])


async def wait_for_end(db: MemoryStore, root_id: str) -> None:
    while True:
        root = (await db.get([root_id]))[root_id]
        if root.run_ended_at is not None and root.run_requested_at is None:
            return
        await asyncio.sleep(0.01)


def check(task: Task, error_type: str | None) -> None:
    assert str(task.status) == ("completed" if error_type is None else "failed")
    if error_type is not None:
        assert task.result["error_type"] == error_type


@pytest.mark.parametrize("how", [*SYNC, *ASYNC])
@pytest.mark.parametrize("where", ["execute", "tool"])
async def test_the_code_of_an_executor_fails_its_own_task_alone(where: str, how: str):
    leaves, error_type = (SYNC | ASYNC)[how]
    arrange(where, leaves)
    if how == "cancels its task":
        error_type = "CancelledError"  # it waits afterwards
    check(await run_odd(), error_type)


@pytest.mark.parametrize("how", SYNC)
@pytest.mark.parametrize("where", ["__init__", "get_input_schema"])
async def test_the_making_of_an_executor_fails_its_own_task_alone(where: str, how: str):
    leaves, error_type = SYNC[how]
    arrange(where, leaves)
    if how == "cancels its task":
        error_type = "CancelledError"  # the executor waits afterwards
    check(await run_odd(), error_type)


@pytest.mark.parametrize("how", [*SYNC, *ASYNC])
async def test_the_cancel_method_of_an_executor_does_not_keep_its_task(how: str):
    arrange("cancel", (SYNC | ASYNC)[how][0])
    assert str((await run_odd({"hang": True}, is_cancelled=True)).status) == "cancelled"


@pytest.mark.parametrize("how", [*SYNC, *ASYNC])
@pytest.mark.parametrize("kind", ["pre", "post"])
async def test_a_hook_never_decides_how_a_task_ends(kind: str, how: str):
    leaves = (SYNC | ASYNC)[how][0]

    async def hook(task: Task, *_: Any) -> None:
        if task.id == "it":
            done = leaves()
            if asyncio.iscoroutine(done):
                await done

    def sync_hook(task: Task, *_: Any) -> None:
        if task.id == "it" and how in SYNC:
            leaves()

    for each in (hook, sync_hook):
        (register_pre_hook if kind == "pre" else register_post_hook)(each)
    check(await run_odd(), None)


TREE_HOOKS = [
    "on_tree_created",
    "on_tree_started",
    "on_tree_completed",
    "on_tree_failed",
    "on_tree_cancelled",
]


@pytest.mark.parametrize("how", [*SYNC, *ASYNC])
@pytest.mark.parametrize("event", TREE_HOOKS)
async def test_a_hook_of_trees_never_decides_how_a_tree_ends(event: str, how: str):
    leaves = (SYNC | ASYNC)[how][0]

    async def hook(root: Task, *_: Any) -> None:
        if root.id == "odd":
            done = leaves()
            if asyncio.iscoroutine(done):
                await done

    def sync_hook(root: Task, *_: Any) -> None:
        if root.id == "odd" and how in SYNC:
            leaves()

    for each in (hook, sync_hook):
        register_task_tree_hook(event, each)
    inputs = {"on_tree_failed": {"fail": True}, "on_tree_cancelled": {"hang": True}}.get(event, {})
    task = await run_odd(inputs, is_cancelled=event == "on_tree_cancelled")
    ends = {"on_tree_failed": "failed", "on_tree_cancelled": "cancelled"}
    assert str(task.status) == ends.get(event, "completed")


@pytest.mark.parametrize("how", SYNC)
async def test_a_provider_of_secrets_fails_its_own_task_alone(how: str, monkeypatch: pytest.MonkeyPatch):
    leaves, error_type = SYNC[how]

    def find(name: str) -> str:
        del name
        leaves()
        return "clear enough"

    monkeypatch.setattr(
        "apflow.core.payload.secrets.find_secret", find
    )  # the provider of a plugin is called by it
    if how == "cancels its task":
        error_type = "CancelledError"  # the executor waits afterwards
    check(await run_odd({"key": {"$secret": "NAME"}}), error_type)


@pytest.mark.parametrize("how", [*SYNC, *ASYNC])
async def test_a_callback_of_a_stream_never_decides_how_a_tree_ends(how: str):
    leaves = (SYNC | ASYNC)[how][0]

    async def callback(event: dict[str, Any]) -> None:
        del event
        done = leaves()
        if asyncio.iscoroutine(done):
            await done

    db = MemoryStore()
    manager = TaskManager(db)
    manager.streaming_callbacks.add(callback)
    node = await manager.task_repository.create_task(name="plain", inputs={})
    async with asyncio.timeout(30):
        await manager.distribute_task_tree_with_streaming(await manager_tree(db, node.id))
    assert await status(db, node.id) == "completed"


async def manager_tree(db: MemoryStore, task_id: str) -> Any:
    return TaskTreeNode((await db.get([task_id]))[task_id])


@pytest.mark.parametrize("how", SYNC)
async def test_a_runner_fails_the_task_alone(how: str):
    leaves, error_type = SYNC[how]

    class Leaving(LocalRunner):
        async def call(self, executor: Any, inputs: dict[str, Any], timeout: float | None) -> Any:
            leaves()
            return await super().call(executor, inputs, timeout)

    db = MemoryStore()
    manager = TaskManager(db, runner=Leaving())
    task = await manager.task_repository.create_task(name="plain", inputs={"seconds": 0})
    if how == "cancels its task":
        error_type = "CancelledError"
    async with asyncio.timeout(30):
        await manager.distribute_task_tree(await manager_tree(db, task.id))
    check((await db.get([task.id]))[task.id], error_type)


@pytest.mark.parametrize("how", [each for each in SYNC if each not in ("cancels its task", "blocks")])
@pytest.mark.parametrize("where", ["__init__", "get_input_schema"])
async def test_an_executor_that_cannot_be_described_is_said_to_be_so(where: str, how: str):
    arrange(where, SYNC[how][0])
    described = describe_executor("odd")
    assert not described["is_usable"]
    assert str(SYNC[how][1]) in described["problem"]


async def cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task.get_name() not in PROTECTED:
            task.cancel()
    await asyncio.sleep(0.1)


async def cancel_in_a_loop() -> None:
    for _ in range(20):
        for task in asyncio.all_tasks():
            if task.get_name() not in PROTECTED:
                task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


PROTECTED = {"of the test", "worker of the test"}  # the caller that runs a worker may cancel it


@pytest.mark.parametrize("how", [cancel_all, cancel_in_a_loop])
@pytest.mark.parametrize("where", ["execute", "tool", "pre", "post", "on_tree_started", "on_tree_created"])
async def test_code_that_cancels_all_tasks_cancels_its_own_only(where: str, how: Callable[[], Any]):
    async def hook(task: Task, *_: Any) -> None:
        if task.id in ("it", "odd") and (task.id == "odd") == where.startswith("on"):
            await how()

    if where in ("execute", "tool"):
        arrange(where, how)
    elif where in ("pre", "post"):
        (register_pre_hook if where == "pre" else register_post_hook)(hook)
    else:
        register_task_tree_hook(where, hook)
    for task in asyncio.all_tasks():
        task.set_name("of the test")
    task = await run_odd(beside={"seconds": 0.05, "policy": {"effect": "once"}})
    check(task, "CancelledError" if where in ("execute", "tool") and how is cancel_all else None)
    assert task.interruptions == 0


async def test_an_executor_that_runs_a_tree_may_cancel_it():
    db = MemoryStore()

    async def run_another() -> None:
        manager = TaskManager(db)
        inner = await manager.task_repository.create_task(name="plain", inputs={"seconds": 30})
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await manager.distribute_task_tree(await manager_tree(db, inner.id))
        assert await status(db, inner.id) == "cancelled"

    arrange("execute", run_another)
    check(await run_odd(), None)


async def ignore() -> None:
    """Wait without end, whatever is raised."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


async def wait_for_what_ignores() -> None:
    """Wait for another asyncio task that ignores every cancellation: none arrives here."""
    await asyncio.create_task(ignore_for(2))


async def ignore_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


async def ignore_its_close() -> None:
    while not is_over:
        with suppress(BaseException):
            await asyncio.sleep(0.05)


is_over = False


@pytest.mark.filterwarnings("ignore:Exception ignored in")
@pytest.mark.parametrize("wait", [ignore, wait_for_what_ignores, ignore_its_close])
@pytest.mark.parametrize("event", ["pre", "post", "on_tree_created", "on_tree_started", "on_tree_completed"])
async def test_a_run_goes_on_without_a_hook_that_ignores_its_cancellation(
    event: str, wait: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    global is_over
    is_over = False

    async def stubborn_hook(task: Task, *_: Any) -> None:
        if task.id in ("it", "odd") and (task.id == "odd") == event.startswith("on"):
            await wait()

    registering = {"pre": register_pre_hook, "post": register_post_hook}
    if event in registering:
        registering[event](stubborn_hook)
    else:
        register_task_tree_hook(event, stubborn_hook)
    with overridden_defaults(hook_timeout=0.2, cancel_grace=0.3):
        check(await run_odd(), None)
    assert "stubborn_hook ignores its cancellation" in caplog.text
    is_over = True


async def test_a_hook_waits_as_any_coroutine_does():
    heard: list[object] = []

    async def hook(task: Task) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(5)
        heard.append(await asyncio.wait_for(asyncio.sleep(0, "in time"), 5))
        heard.extend(await asyncio.gather(asyncio.sleep(0.01, 1), asyncio.sleep(0, 2)))
        anyio = pytest.importorskip("anyio")
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(5)
        heard.append(scope.cancelled_caught)
        try:
            await asyncio.shield(asyncio.create_task(failing()))
        except ValueError as error:
            heard.append(str(error))

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    register_pre_hook(lambda task: hook(task) if task.id == "it" else None)
    check(await run_odd(), None)
    assert heard == ["in time", 1, 2, True, "no"]


ATTRIBUTES = ["effect", "max_concurrency", "cancelable", "uses_net_policy"]


@pytest.mark.parametrize("how", SYNC)
@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("is_instance", [False, True])
async def test_a_property_of_an_executor_decides_over_its_own_task_only(
    name: str, how: str, is_instance: bool
):
    def read(_: object) -> object:
        if place == "property":
            SYNC[how][0]()
        return None

    kind = type("Odd", (Odd,), {name: property(read)})
    executor_register(kind() if is_instance else kind, override=True)
    arrange("property", lambda: None)
    check(await run_odd(), None)
    arrange("property", lambda: None)
    assert str((await run_odd({"hang": True}, is_cancelled=True)).status) == "cancelled"


class Never:
    """Equal to nothing, and neither shown nor iterated."""

    def _refuse(self, *_: object) -> Any:
        raise Panic("no")

    __eq__ = __str__ = __repr__ = __iter__ = __len__ = __bool__ = __float__ = model_dump = _refuse
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", [0, -1, True, "2", 1.5, Never()])
async def test_a_limit_that_is_not_valid_is_taken_as_1(value: object):
    limited = type("Odd", (Odd,), {"max_concurrency": property(lambda _: value)})  # unknown until it is read
    executor_register(limited, override=True)
    check(await run_odd(), None)


@pytest.mark.parametrize("value", [0, -1, True, "2", 1.5, Never()])
def test_a_class_with_a_limit_that_is_not_valid_is_refused(value: object):
    with pytest.raises(InvalidInputError, match="max_concurrency"):
        executor_register(type("Odd", (Odd,), {"max_concurrency": value}), override=True)


class UnshownError(Exception):
    """Raises an error that is not an `Exception` whenever its text or attributes are read."""

    def _refuse(self, *_: object) -> Any:
        raise Panic("no")

    __str__ = __repr__ = _refuse
    __notes__ = __suppress_context__ = exceptions = violations = property(_refuse)


class Odds(dict[str, Any]):
    __eq__ = __iter__ = __len__ = keys = items = Never._refuse  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class UnshownInputError(InvalidInputError):
    violations = property(UnshownError._refuse, lambda *_: None)  # type: ignore[assignment]


class UnshownTextError(Exception):
    def __str__(self) -> str:
        return type("Text", (str,), {"__bool__": Never._refuse, "__len__": Never._refuse})("no")


UNSHOWN: dict[str, Callable[[], BaseException]] = {
    "text": UnshownError,
    "violations": lambda: UnshownInputError("no"),
    "wrong violations": lambda: InvalidInputError("no", cast("Any", [Never()])),
    "text of another type": UnshownTextError,
    "code": lambda: SystemExit(Never()),
    "group": lambda: ExceptionGroup("many", [UnshownError()]),
}


@pytest.mark.parametrize("where", ["execute", "__init__", "get_input_schema", "cancel"])
@pytest.mark.parametrize("kind", UNSHOWN)
async def test_an_error_that_cannot_be_shown_ends_its_own_task_alone(kind: str, where: str):
    made = UNSHOWN[kind]()
    arrange(where, raising(made))
    task = await run_odd({"hang": where == "cancel"}, is_cancelled=where == "cancel")
    if where == "cancel":
        assert str(task.status) == "cancelled"
    else:
        check(task, type(made).__name__)


@pytest.mark.parametrize("kind", UNSHOWN)
@pytest.mark.parametrize("event", ["pre", "post", *TREE_HOOKS[:3]])
async def test_an_error_of_a_hook_that_cannot_be_shown_is_logged(
    event: str, kind: str, caplog: pytest.LogCaptureFixture
):
    class Hook(Never):
        def __call__(self, task: Task, *_: Any) -> None:
            if task.root_id == "odd":
                raise UNSHOWN[kind]()

    registering = {"pre": register_pre_hook, "post": register_post_hook}
    hook = Hook()
    hook_call = lambda *given: hook(*given)  # noqa: E731 - hooks must be hashable
    if event in registering:
        registering[event](hook_call)
    else:
        register_task_tree_hook(event, hook_call)
    check(await run_odd(), None)
    assert "Hook" in caplog.text


RESULTS: dict[str, Callable[[], Any]] = {
    "object": Never,
    "object inside": lambda: {"a": [Never()]},
    "mapping": lambda: Odds(a=1),
    "key": lambda: {type("Key", (str,), {"__eq__": Never._refuse, "__hash__": str.__hash__})("a"): 1},
    "error": lambda: {"error": UnshownError()},
}


@pytest.mark.parametrize("kind", RESULTS)
@pytest.mark.parametrize("where", ["execute", "cancel"])
async def test_a_result_that_raises_when_it_is_read_fails_its_own_task_alone(where: str, kind: str):
    class Returning(Odd):
        async def execute(self, inputs: dict[str, Any]) -> Any:
            await super().execute(inputs)
            return RESULTS[kind]() if where == "execute" else {}

        async def cancel(self) -> Any:
            return {"partial_result": RESULTS[kind]()}

    executor_register(Returning, executor_id="odd", override=True)
    task = await run_odd({"hang": where == "cancel"}, is_cancelled=where == "cancel")
    assert str(task.status) in ("cancelled" if where == "cancel" else ("failed", "completed"))


async def test_code_that_returns_after_its_timeout_has_timed_out():
    """Also if it has leaked cancellations before."""

    async def slow() -> None:
        with suppress(asyncio.CancelledError):
            await wait_cancelled()  # leaks one
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.1)

    arrange("execute", slow)
    db = MemoryStore()
    manager = TaskManager(db)
    task = await manager.task_repository.create_task(name="odd", policy={"timeout": 0.1})
    async with asyncio.timeout(30):
        await manager.distribute_task_tree(await manager_tree(db, task.id))
    ended = (await db.get([task.id]))[task.id]
    check(ended, "TimeoutError")
    assert "policy.timeout" in ended.error


@pytest.mark.parametrize("by", ["timeout", "cancel"])
async def test_code_that_never_ends_is_left_behind(by: str):
    """It swallows every cancellation; its run ends all the same."""
    is_over = False

    async def stubborn() -> None:
        while not is_over:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    arrange("execute", stubborn)
    db = MemoryStore()
    policy = {"timeout": 0.1} if by == "timeout" else {}
    with overridden_defaults(cancel_grace=0.2, cancel_wait=0.5):
        manager = TaskManager(db)
        task = await manager.task_repository.create_task(name="odd", policy=policy)
        async with asyncio.timeout(30):
            running = asyncio.create_task(manager.distribute_task_tree(await manager_tree(db, task.id)))
            if by == "cancel":
                await asyncio.sleep(0.1)
                while (await manager.cancel_task(task.id))["status"] == "cancelling":
                    await asyncio.sleep(0.1)
            await running
    assert await status(db, task.id) == ("failed" if by == "timeout" else "cancelled")
    is_over = True
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["anyio scope", "asyncio timeout", "cancelled twice"])
async def test_a_cancelled_caller_cancels_the_tree_and_waits_for_its_code(how: str):
    """A cancel scope of anyio cancels again and again, while the code is still ending."""
    has_ended = False

    async def slow_to_end() -> None:
        nonlocal has_ended
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.2)
            has_ended = True

    arrange("execute", slow_to_end)
    db = MemoryStore()
    manager = TaskManager(db)
    task = await manager.task_repository.create_task(name="odd")
    running = manager.distribute_task_tree(await manager_tree(db, task.id))
    async with asyncio.timeout(30):
        if how == "anyio scope":
            anyio = pytest.importorskip("anyio")
            with anyio.move_on_after(0.1) as scope:
                await running
            assert scope.cancelled_caught
        elif how == "asyncio timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await running
        else:
            caller = asyncio.create_task(running)
            await asyncio.sleep(0.1)
            caller.cancel()
            await asyncio.sleep(0.05)
            caller.cancel()
            with suppress(asyncio.CancelledError):
                await caller
            while await status(db, task.id) == "in_progress":
                await asyncio.sleep(0.01)
    assert has_ended
    assert await status(db, task.id) == "cancelled"
