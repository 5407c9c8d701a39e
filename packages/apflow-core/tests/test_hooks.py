import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.extensions.hooks import (
    Hooks,
    clear_hooks,
    register_post_hook,
    register_pre_hook,
    register_task_tree_hook,
)
from apflow.core.model.task import Json, Task
from apflow.core.settings import reset_settings


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    clear_hooks()
    yield
    clear_hooks()


def a_task() -> Task:
    return Task(id="t", name="n", root_id="t", inputs={"a": 1})


async def test_pre_hooks_change_the_inputs_in_order_of_registration_sync_or_async():
    @register_pre_hook
    async def first(task: Task) -> None:
        task.inputs["a"] += 1

    @register_pre_hook
    def second(task: Task) -> None:
        task.inputs["a"] *= 10

    task, hooks = a_task(), Hooks.current()
    assert hooks.has_pre
    assert not hooks.has_post
    await hooks.run_pre(task)
    assert task.inputs == {"a": 20}


async def test_a_hook_that_raises_is_logged_by_name_and_the_next_one_runs(caplog: pytest.LogCaptureFixture):
    seen: list[Json] = []

    @register_post_hook
    async def breaks(task: Task, inputs: dict[str, Json], result: Json) -> None:
        raise RuntimeError("no")

    @register_post_hook
    async def sees(task: Task, inputs: dict[str, Json], result: Json) -> None:
        seen.append((task.id, inputs, result))

    with caplog.at_level(logging.ERROR):
        await Hooks.current().run_post(a_task(), {"a": 1}, "r")
    assert seen == [("t", {"a": 1}, "r")]
    assert "breaks" in caplog.text


async def test_a_hook_that_takes_too_long_is_given_up(caplog: pytest.LogCaptureFixture):
    async def endless(task: Task) -> None:
        await asyncio.Event().wait()

    hooks = replace(Hooks.current(pre_hooks=[endless]), timeout=0.01)
    with caplog.at_level(logging.ERROR):
        await hooks.run_pre(a_task())
    assert "endless" in caplog.text


async def test_cancelling_is_never_swallowed():
    async def cancelled(task: Task) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await Hooks.current(pre_hooks=[cancelled]).run_pre(a_task())


async def test_a_hook_runs_in_the_task_that_calls_it_before_and_after_it_has_waited():
    seen: list[object] = []

    async def hook(task: Task) -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("arrives"))
        try:
            await future
        except ValueError as error:
            seen.append(str(error))
        await asyncio.sleep(0)
        task.inputs["a"] = "changed after all that"

    task = a_task()
    await Hooks.current(pre_hooks=[hook]).run_pre(task)
    assert seen == [asyncio.current_task()] * 2 + ["arrives"]
    assert task.inputs == {"a": "changed after all that"}


async def test_a_hook_may_have_its_own_time_limits_and_tasks(caplog: pytest.LogCaptureFixture):
    seen: list[str] = []

    async def hook(task: Task) -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append("its own limit")
        async with asyncio.TaskGroup() as group:
            begun = group.create_task(asyncio.sleep(0, "a task"))
        seen.append(begun.result() or "")
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    hooks = replace(Hooks.current(pre_hooks=[hook]), timeout=0.02)
    with caplog.at_level(logging.ERROR):
        await hooks.run_pre(a_task())
    assert seen == ["its own limit", "a task"]
    assert "took over 0.02 s" in caplog.text
    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()


async def test_cancelling_the_caller_arrives_where_a_hook_waits():
    seen, waiting = list[str](), asyncio.Event()

    async def hook(task: Task) -> None:
        try:
            waiting.set()
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    running = asyncio.create_task(Hooks.current(pre_hooks=[hook]).run_pre(a_task()))
    await waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["cleaned up"]


async def test_a_hook_may_return_anything_that_can_be_awaited():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await Hooks.current(pre_hooks=[lambda task: future]).run_pre(a_task())
    assert future.done()


async def test_hooks_of_a_run_do_not_change_when_others_are_registered_later():
    seen: list[str] = []
    hooks = Hooks.current(pre_hooks=[lambda task: seen.append("given")])
    register_pre_hook(lambda task: seen.append("late"))
    await hooks.run_pre(a_task())
    assert seen == ["given"]


async def test_a_hook_registered_and_given_runs_once():
    seen: list[str] = []

    @register_pre_hook
    def hook(task: Task) -> None:
        seen.append(task.id)

    await Hooks.current(pre_hooks=[hook]).run_pre(a_task())
    assert seen == ["t"]


async def test_tree_hooks_are_given_what_their_event_tells():
    seen: list[tuple[object, ...]] = []
    for event in ("on_tree_started", "on_tree_completed"):
        register_task_tree_hook(event, lambda *arguments: seen.append(arguments))
    root, hooks = a_task(), Hooks.current()
    await hooks.run_tree("on_tree_started", root)
    await hooks.run_tree("on_tree_completed", root, "completed")
    assert seen == [(root,), (root, "completed")]


def test_an_unknown_tree_event_is_refused():
    with pytest.raises(InvalidInputError, match="on_tree_created"):
        register_task_tree_hook("on_tree_exploded", print)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def hook(task): pass", "pre"),
        ("def hook(task, inputs, result): pass", "post"),
        ("from apflow.core import register_pre_hook\n@register_pre_hook\ndef hook(*a): pass", "pre"),
        ("def on_tree_failed(root, message): pass\nhook = on_tree_failed", "on_tree_failed"),
    ],
)
def test_a_hook_plugin_runs_only_when_settings_name_it(
    code: str, kind: str, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    install("hooking-one", "test_hook = hooking_one:hook", code, group="apflow.hooks")
    before = Hooks.current()
    assert (before.pre, before.post, before.tree) == ((), (), {})
    monkeypatch.setenv("APFLOW_HOOKS", "test_hook")
    reset_settings()
    hooks = Hooks.current()
    found = {"pre": hooks.pre, "post": hooks.post, **hooks.tree}
    assert [name for name, each in found.items() if each] == [kind]


def test_a_named_hook_that_is_missing_stops_the_run_before_it_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_HOOKS", "test_missing_hook")
    reset_settings()
    with pytest.raises(SettingsError, match="test_missing_hook"):
        Hooks.current()
    monkeypatch.undo()
    reset_settings()
