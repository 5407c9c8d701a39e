"""The list of apflow's executors agrees with the packages that have them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from apflow.core.extensions.description import describe_executor
from apflow.core.extensions.first_party import FIRST_PARTY, search

PACKAGES = Path(__file__).resolve().parent.parent.parent


def offered() -> dict[str, str]:
    """Return the distribution of each executor id, as the packages declare them."""
    found: dict[str, str] = {}
    for file in PACKAGES.glob("apflow-*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        ids = project.get("entry-points", {}).get("apflow.executors", {})
        found |= dict.fromkeys(ids, project["name"])
    return found


def test_the_list_names_every_executor_of_the_packages():
    listed = {each: FIRST_PARTY[each].distribution for each in FIRST_PARTY}
    assert listed == {key: name for key, name in offered().items() if name != "apflow-core"}


@pytest.mark.parametrize("executor_id", FIRST_PARTY)
def test_an_executor_is_listed_as_it_describes_itself(executor_id: str):
    if not FIRST_PARTY[executor_id].is_installed:
        pytest.skip("it is not installed here")
    assert FIRST_PARTY[executor_id].description == describe_executor(executor_id)["description"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["crew"], ["batch_crewai_executor", "crewai_executor"]),
        (["CREW", "batch"], ["batch_crewai_executor"]),
        (["protocol agent"], ["a2a_executor"]),
        (["apflow-executor-http"], ["rest_executor"]),
        (["nothing of the kind"], []),
        ([], sorted(FIRST_PARTY)),
    ],
)
def test_every_word_must_be_there(words: list[str], ids: list[str]):
    assert [each.executor_id for each in search(words)] == ids
