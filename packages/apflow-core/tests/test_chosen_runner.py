"""The setting `runner` names the plugin that calls executors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from apflow.core import BaseTask, LocalRunner, MemoryStore, TaskExecutor, TaskManager
from apflow.core.errors import PluginLoadError, SettingsError
from apflow.core.extensions.registry import get_registry
from apflow.core.extensions.runner import GROUP, chosen_runner
from apflow.core.settings import overridden_defaults

CODE = """
from apflow.core import LocalRunner


class Counting(LocalRunner):
    calls = []

    async def call(self, executor, inputs, timeout):
        self.calls.append(executor.task_id)
        return await super().call(executor, inputs, timeout)


def needy(address):
    raise AssertionError


class Empty:
    pass
"""

Install = Callable[..., None]


class Double(BaseTask):
    id = "double"
    name = "Double"
    description = "Doubles a number."

    async def execute(self, inputs: dict[str, int]) -> dict[str, int]:
        return {"double": 2 * inputs["number"]}


@pytest.fixture
def double() -> Iterator[str]:
    get_registry().register(Double)
    yield Double.id
    get_registry().unregister(Double.id)


async def test_the_runner_that_the_setting_names_calls_executors(install: Install, double: str):
    install("runners", "counting = counting_runner:Counting", CODE, group=GROUP)
    task = {"id": "t", "name": double, "inputs": {"number": 2}}
    with overridden_defaults(runner="counting"):
        async with MemoryStore() as db:
            outcome = await TaskExecutor().execute_tasks([task], db_session=db)
        runner = chosen_runner()
        assert runner is chosen_runner()
    assert outcome["result"] == {"double": 4}
    assert runner.calls == ["t"]
    assert type(chosen_runner()) is LocalRunner


def test_an_unknown_runner_is_named_with_those_that_there_are(install: Install):
    install("runners", "counting = counting_runner:Counting", CODE, group=GROUP)
    named = pytest.raises(SettingsError, match=r"'slurm'.*counting,.*local")
    with overridden_defaults(runner="slurm"), named:
        chosen_runner()


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("needy", "makes no runner: TypeError"),
        ("Empty", "makes a Empty, which has no `async def run`"),
    ],
)
def test_a_plugin_that_makes_no_runner_is_named(install: Install, target: str, cause: str):
    install("runners", f"odd = odd_runner:{target}", CODE, group=GROUP)
    with overridden_defaults(runner="odd"), pytest.raises(PluginLoadError, match=cause):
        chosen_runner()


async def test_a_runner_that_is_given_is_used_whatever_the_setting_names():
    with overridden_defaults(runner="not installed"):
        async with MemoryStore() as db:
            manager = TaskManager(db, runner=LocalRunner())
            assert (await manager.cancel_task("nothing"))["status"] == "failed"
