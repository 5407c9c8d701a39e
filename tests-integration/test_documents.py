"""The pages of docs/ say what is so, beyond the blocks that run as tests by themselves."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import apflow.client
import apflow.core
import apflow.server
from apflow.cli.errors.exit_code import ExitCode
from apflow.core.errors import ApflowError
from apflow.core.service.error_json import FACTS
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server import create_app
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


def links_of(page: Path) -> set[Path]:
    found = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    return {(page.parent / link).resolve() for link in found}


def reached_from(start: Path) -> set[Path]:
    """The pages that a reader comes to who follows links from page to page."""
    reached, waiting = {start}, [start]
    while waiting:
        found = {page for page in links_of(waiting.pop()) if page.suffix == ".md"} - reached
        reached |= found
        waiting += found
    return reached


def test_a_reader_comes_from_the_first_page_to_every_page():
    pages = {*ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")}
    assert pages - reached_from(ROOT / "docs" / "README.md") == set()


def test_a_page_that_nothing_links_to_is_not_reached(tmp_path: Path):
    (tmp_path / "first.md").write_text("[second](second.md)")
    (tmp_path / "second.md").write_text("[first](first.md), [elsewhere](https://example.com/third.md)")
    (tmp_path / "third.md").write_text("[first](first.md)")
    assert {page.name for page in reached_from(tmp_path / "first.md")} == {"first.md", "second.md"}


@pytest.mark.parametrize("folder", ["tutorial", "how-to", "reference", "explanation"])
def test_the_index_of_a_folder_lists_all_of_its_pages(folder: str):
    """The navigation of the site is the order of these links."""
    index = ROOT / "docs" / folder / "README.md"
    assert set(index.parent.glob("**/*.md")) - links_of(index) == {index}


def test_the_reference_has_every_public_name_once():
    pages = ROOT.glob("docs/reference/api/*.md")
    listed = [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    public = {f"apflow.core.{name}" for name in apflow.core.__all__} - {"apflow.core.ApflowError"}
    public |= {f"apflow.client.{name}" for name in apflow.client.__all__} - {"apflow.client.RemoteService"}
    public |= {f"apflow.server.{name}" for name in apflow.server.__all__}
    assert public - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_the_metrics_page_lists_what_a_server_returns():
    listed = {row[0] for row in rows("docs/reference/metrics.md")}
    app = create_app(db=MemoryStore())
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    returned = set(re.findall(r"^# TYPE (apflow_\w+) ", answer.text, re.MULTILINE))
    returned -= {name for name in returned if name.endswith("_created")}
    assert listed == returned
