"""The pages of docs/ say what is so, beyond the blocks that run as tests by themselves."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from apflow.cli.errors.exit_code import ExitCode
from apflow.core.errors import ApflowError
from apflow.core.service.error_json import FACTS
from apflow.core.settings import Settings
from apflow.server.http.api_error import api_error_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]


def rows(page: str) -> list[list[str]]:
    """The cells of a page's tables, without headings."""
    lines = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def default_of(name: str) -> str:
    default = next(each.default for each in fields(Settings) if each.name == name)
    if default is MISSING or default in ((), None):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_settings_page_lists_every_setting_with_its_default():
    expected = [[f"APFLOW_{each.name.upper()}", default_of(each.name)] for each in fields(Settings)]
    assert [row[:2] for row in rows("docs/reference/settings.md")] == expected


def test_the_exit_codes_page_lists_every_exit_code():
    listed = {int(row[0]) for row in rows("docs/reference/exit-codes.md")}
    assert listed == {int(code) for code in ExitCode}


def test_the_errors_page_lists_every_type_with_its_code_and_its_facts():
    listed = {row[0]: (row[1], re.findall(r"\w+", row[2])) for row in rows("docs/reference/errors.md")}
    expected = {kind.__name__: (str(code_of(kind)), list(facts)) for kind, facts in FACTS.items()}
    assert listed == expected


def code_of(kind: type[ApflowError]) -> int:
    """The code that the server has for a kind of error."""
    error = kind.__new__(kind)
    error.args = ("",)
    vars(error).update(dict.fromkeys(FACTS[kind]))
    return int(api_error_of(error).code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_file_that_exists(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    }
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages - linked - {ROOT / "docs" / "README.md", *ROOT.glob("docs/*/README.md")} == set()
