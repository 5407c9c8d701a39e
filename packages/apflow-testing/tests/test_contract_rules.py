"""A failing test of a contract names the rule, says how to follow it, and shows the values."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from apflow.testing.contract_rules import explanation
from apflow.testing.executor import ExecutorContract
from apflow.testing.runner import RunnerContract
from apflow.testing.store import StoreContract

AUTHORS_TESTS = """
from apflow.core import BaseTask, LocalRunner, MemoryStore
from apflow.testing.executor import ExecutorContract
from apflow.testing.runner import RunnerContract
from apflow.testing.store import StoreContract


class Odd(BaseTask):
    id = "odd"
    name = "Odd"
    description = "Has an effect that does not exist."
    effect = "maybe"

    async def execute(self, inputs):
        return {}


class TestOdd(ExecutorContract):
    def make_executor(self):
        return Odd()

    def good_inputs(self):
        return {}

    def test_its_own(self):
        assert self.good_inputs() == {"a": 1}


class Forgetful(MemoryStore):
    async def records(self, kind, *, prefix="", limit=None):
        return []


class TestForgetful(StoreContract):
    def make_store(self, folder):
        return Forgetful()


class Silent(LocalRunner):
    async def call(self, executor, inputs, timeout):
        try:
            return await super().call(executor, inputs, timeout)
        except LookupError:
            return None


class TestSilent(RunnerContract):
    def make_runner(self):
        return Silent()
"""
CHOSEN = "declarations or its_own or kinds_do_not_mix or fails_with_the_error"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest shows to the author of three faulty plugins."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "test_plugins.py").write_text(AUTHORS_TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "--tb=short",
    ]
    done = subprocess.run(
        [*command, "-k", CHOSEN, "test_plugins.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_a_failure_shows_the_values_of_the_assertion(shown: str):
    assert "AssertionError: assert 'maybe' in ('pure', 'idempotent', 'once')" in shown


@pytest.mark.parametrize(
    ("rule", "advice", "place"),
    [
        ("its declarations have a meaning", 'Set `effect` to "pure"', "executor.ExecutorContract"),
        ("kinds do not mix", "The rules are in `TaskStore.put_record`", "storerecord.StoreRecordContract"),
        ("a task fails with the error of the executor", "The class of the error", "runner.RunnerContract"),
    ],
)
def test_a_failure_names_the_rule_and_how_to_follow_it(shown: str, rule: str, advice: str, place: str):
    section = shown.partition(f"Broken rule: {rule}")[2].partition("____")[0]
    assert advice in section
    assert f"The rule is in apflow.testing.{place}." in section


def test_a_test_of_the_author_is_not_a_rule(shown: str):
    own = shown.partition("TestOdd.test_its_own")[2].partition("____")[0]
    assert own
    assert "Broken rule" not in own


@pytest.mark.parametrize("contract", [ExecutorContract, RunnerContract, StoreContract])
def test_every_rule_says_how_to_follow_it(contract: type):
    rules = [test for name, test in inspect.getmembers(contract) if name.startswith("test_")]
    texts = [explanation(rule, contract) or "" for rule in rules]
    advice = [text.partition("How to follow it: ")[2].partition("\nThe rule is in")[0] for text in texts]
    assert len(rules) > 5
    # More than a title, and, except where a class of a few rules has the advice, of the rule itself.
    general = inspect.getdoc(contract)
    are_bare = [each == general or len(each) < 60 for each in advice]
    assert [rule.__name__ for rule, is_bare in zip(rules, are_bare, strict=True) if is_bare] == []
