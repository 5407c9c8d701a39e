"""Type checkers on code that uses the installed packages: they accept its flows, and reject wrong calls."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from installing import CONSTRAINTS, PLAIN, ROOT, Environment, Wheels, build, must_run, new_environment

pytestmark = pytest.mark.wheels

SETUP = 'SHOP = "http://127.0.0.1"\n'
RIGHT = """
from dataclasses import dataclass

from apflow.core import BaseTask, FlowOutcome, flow, run_flow, run_sync, task


@dataclass
class Quote:
    cost: int
    parts: list[int]


@task
def quote(fruit: str, *, count: int = 1) -> Quote:
    return Quote(count, [])


@task(retry=3, timeout=2.0)
async def total(*costs: int) -> int:
    return sum(costs)


@flow
def basket(fruits: list[str], day: str = "today") -> int:
    first = quote.options(name=day, after=[total(1)])("apple")
    return total(first.cost, first.parts[0], *[quote(each, count=2).cost for each in fruits])


@flow(name="all days")
def week(days: int = 7) -> dict[str, int]:
    return {str(day): basket(["apple"], day=str(day)) for day in range(days)}


class Blocking(BaseTask):
    id = "blocking"

    def execute(self, inputs: dict[str, object]) -> dict[str, int]:
        return {"count": len(inputs)}


number: int = run_sync(basket.build(["apple"])).result
days: FlowOutcome[dict[str, int]] = run_sync(week)
plain: Quote = quote.fn("apple")


async def main() -> int:
    outcome = await run_flow(basket.build(["pear"], "monday"))
    return outcome.result + await total.fn(1, 2)
"""
WRONG = [
    "quote(1)",
    'quote("apple", 2)',
    'quote("apple", count="2")',
    "quote()",
    'quote("apple", amount=2)',
    'total("1")',
    'total(quote("apple"))',
    "quote(total(1))",
    "basket.build(1)",
    "basket.build([1])",
    "run_sync(basket)",
    'text: str = run_sync(week).result["1"]',
    'task(retry="often")',
    'task(effect="twice")',
]


@pytest.fixture(scope="module")
def checkers(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the core and DuckDB as wheels, and two type checkers."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in ("apflow-core", "apflow-storage-sql", "apflow-storage-duckdb"):
        build(ROOT / "packages" / name, folder)
    environment = new_environment(tmp_path_factory.mktemp("checkers") / "venv")
    installed = environment.install(*Wheels(folder).needed_by(["apflow-core", "apflow-storage-duckdb"]))
    assert installed.returncode == 0, installed.stderr
    python = str(environment.python)
    must_run(
        "uv", "pip", "install", "--quiet", "--python", python, "-c", CONSTRAINTS, "mypy", "pyright[nodejs]"
    )
    return environment


def faults(environment: Environment, checker: str, code: str, folder: Path) -> dict[int, str]:
    """Return the errors that a type checker, at its strictest, reports, by line."""
    (folder / "example.py").write_text(code)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = ["--strict"] if checker == "mypy" else ["--pythonpath", str(environment.python)]
    done = subprocess.run(
        [str(environment.python), "-m", checker, *options, "example.py"],
        cwd=folder,
        env=PLAIN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"example\.py:(\d+)(?::\d+)?(?: -|:) error: (.*)", done.stdout)
    assert bool(found) == bool(done.returncode), done.stdout
    return {int(line): text for line, text in found}


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/nightly-etl.md", "here"])
def test_the_documented_flows_are_accepted(checkers: Environment, checker: str, page: str, tmp_path: Path):
    code = RIGHT if page == "here" else SETUP + next(each for each in blocks(page) if "@flow" in each)
    assert faults(checkers, checker, code, tmp_path) == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_wrong_calls_are_rejected(checkers: Environment, checker: str, tmp_path: Path):
    code = f"{RIGHT}\n" + "".join(f"{each}\n" for each in WRONG)
    first = code.count("\n") - len(WRONG) + 1
    found = faults(checkers, checker, code, tmp_path)
    accepted = [each for at, each in enumerate(WRONG) if first + at not in found]
    assert (accepted, [line for line in found if line < first]) == ([], [])


def test_the_flow_of_the_tutorial_has_at_most_twenty_lines():
    code = next(each for each in blocks("docs/tutorial/nightly-etl.md") if "@flow" in each)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    assert "class " not in code
