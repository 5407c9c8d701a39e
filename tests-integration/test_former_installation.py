"""The extras of the former name, and what the page for its users says to install."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "move-from-aipartnerupflow.md").read_text()
FORMER = "aipartnerupflow"
EXTRAS = {
    "a2a", "all", "cli", "crewai", "docker", "grpc", "http", "llm", "mcp", "postgres", "ssh", "websocket",
}  # fmt: skip


@cache
def project(name: str) -> dict[str, object]:
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]


def siblings(requirements: list[str]) -> set[str]:
    """Return the distributions of this repository that requirements name, and what these need."""
    names = {re.match(r"[\w-]+", each)[0] for each in requirements}
    found = {each for each in names if (ROOT / "packages" / each).is_dir()} - {FORMER}
    return found.union(*(siblings(project(each)["dependencies"]) for each in found))


def folders(text: str) -> set[str]:
    """Return the folders of `./apflow-{a,b}` and `./apflow-c`."""
    found: set[str] = set()
    for several, one in re.findall(r"\./apflow-(?:\{([\w,-]+)\}|([\w-]+))", text):
        found |= {f"apflow-{each}" for each in (several or one).split(",")}
    return found


def test_the_extras_are_those_that_documents_and_programs_name():
    extras = project(FORMER)["optional-dependencies"]
    assert {*extras} == EXTRAS
    [everything] = extras["all"]
    assert {*re.search(r"\[(.*)\]", everything)[1].split(",")} == EXTRAS - {"all"}


def test_the_page_names_every_folder_that_an_installation_needs():
    needed = siblings(project(FORMER)["dependencies"])
    [command] = re.findall(r"pip install (.*?)\n```", PAGE, re.DOTALL)
    assert folders(command) == needed
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows.keys() >= EXTRAS
    for extra in EXTRAS - {"all"}:
        assert folders(rows[extra]) == siblings(project(FORMER)["optional-dependencies"][extra]) - needed, (
            extra
        )
