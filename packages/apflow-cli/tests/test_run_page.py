"""`apflow tasks export --html`: one run as one HTML file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from apflow.cli.session import run_document, run_page
from apflow.cli.session.run_document import RunDocument, text_of

HEAD = {"number": 1, "root_id": "r", "timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "attempt": 1}
TREE = [
    {"id": "sum", "name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1, "api_key": "hidden"}},
    {
        "id": "one",
        "name": "</script><b>",
        "parent_id": "sum",
        "schemas": {"method": "add"},
        "inputs": {"a": 1},
    },
]
PAGE = (
    "<!doctype html><meta charset=utf-8><title>run</title>"
    '<script id="run" type="application/json">null</script><p>after</p>'
)
# A distribution that has a page for a run, in place of apflow-server.
METADATA = "Metadata-Version: 2.1\nName: page-of-tests\nVersion: 1.0\n"
POINTS = "[apflow.run_pages]\naaa = page_of_tests:page\n"


def read(text: str) -> Any:
    """Return the document in a page."""
    found = re.search(r'<script id="run" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def document_of(*lines: dict[str, Any]) -> Any:
    with RunDocument("r", "2026-01-01T00:00:00Z") as document:
        for line in lines:
            document.add(line)
        return json.loads("".join(document.pieces()))


def a_task(task_id: str, **fields: Any) -> dict[str, Any]:
    return {"task": {"id": task_id, "status": "completed", "result": None, **fields}}


def a_line(task_id: str, message: str) -> dict[str, Any]:
    return {"log": {**HEAD, "task_id": task_id, "message": message}}


@pytest.fixture
def with_page(apflow: Any) -> Any:
    folder: Path = apflow.folder
    (folder / "page_of_tests.py").write_text(f"def page():\n    return {PAGE!r}\n")
    (folder / "page_of_tests-1.0.dist-info").mkdir()
    (folder / "page_of_tests-1.0.dist-info" / "METADATA").write_text(METADATA)
    (folder / "page_of_tests-1.0.dist-info" / "entry_points.txt").write_text(POINTS)
    return apflow


def test_a_run_is_one_file_with_its_tasks_and_attempts(with_page: Any):
    with_page.run(*TREE)
    found = with_page.json("tasks", "export", "one", "--html", "--output", "run.html")
    assert found["rows"] == {"task": 2}
    text = (with_page.folder / "run.html").read_text()
    assert text.startswith("<!doctype html>")
    assert text.endswith("<p>after</p>")
    document = read(text)
    assert (document["format"], document["version"], document["root_id"]) == ("apflow-run", 1, "sum")
    assert [each["name"] for each in document["tasks"]] == ["sum", "</script><b>"]
    assert [each["outcome"] for each in document["attempts"]["one"]] == ["completed"]
    assert document["cut"] == {}
    assert "hidden" not in text
    assert with_page("tasks", "export", "one", "--html", "--output", "run.html").returncode == 2  # it exists
    printed = with_page("tasks", "export", "sum", "--html", "--output", "-")
    assert read(printed.stdout)["tasks"] == document["tasks"]
    assert with_page("tasks", "export", "sum", "--html").returncode == 0
    assert (with_page.folder / "apflow-run-sum.html").is_file()


def test_options_that_do_not_fit_are_refused(with_page: Any):
    assert with_page("tasks", "export", "none", "--html").returncode == 3
    refused = with_page("tasks", "export", "sum", "--html", "--status", "failed")
    assert refused.returncode == 2
    assert "leave the filters out" in refused.stderr
    refused = with_page("tasks", "export", "all.jsonl", "--output", "x")
    assert refused.returncode == 2
    assert "--html" in refused.stderr


def test_nothing_in_the_data_ends_its_element():
    text = text_of({"</script>": "<!-- & -->"})
    assert not re.search(r"[<>&]", text)
    assert json.loads(text) == {"</script>": "<!-- & -->"}


def test_large_values_are_cut_and_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_document, "MAX_VALUE_CHARS", 10)
    found = document_of(a_task("a", result="x" * 50), a_task("b", result="x", error="y" * 11))
    assert found["tasks"][0]["result"] == '"' + "x" * 9
    assert found["tasks"][1]["result"] == "x"
    assert found["cut"] == {"a": ["result"], "b": ["error"]}


def test_the_last_lines_of_a_task_are_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_document, "MAX_LINES", 2)
    monkeypatch.setattr(run_document, "MAX_LINE_CHARS", 5)
    lines = [a_line("a", str(number)) for number in range(4)]
    found = document_of(a_task("a"), a_task("b"), *lines, a_line("b", "x" * 9))
    assert [each["text"] for each in found["logs"]["a"]] == ["2", "3"]
    assert found["logs"]["b"] == [{"at": HEAD["timestamp"], "level": "INFO", "text": "xxxxx", "attempt": 1}]
    assert found["cut"] == {"a": ["logs"], "b": ["logs"]}


def test_logs_have_a_limit_in_total(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_document, "MAX_LOG_CHARS", 4)
    found = document_of(a_task("a"), a_line("a", "123"), a_line("a", "45"), a_line("a", "6"))
    assert [each["text"] for each in found["logs"]["a"]] == ["123", "6"]
    assert found["cut"] == {"a": ["logs"]}


def test_tasks_that_failed_are_explained_first():
    with RunDocument("r", "") as document:
        for task_id, status in (("a", "pending"), ("b", "completed"), ("c", "failed")):
            document.add(a_task(task_id, status=status))
        assert document.unfinished == ["c", "a"]


def test_a_page_without_a_place_for_the_data_is_refused(with_page: Any):
    (with_page.folder / "page_of_tests.py").write_text("def page():\n    return '<p>'\n")
    done = with_page("tasks", "export", "sum", "--html")
    assert done.returncode == 1
    assert 'id="run"' in done.stderr


def test_an_installation_without_a_page_names_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_page, "GROUP", "apflow.no_such_group")
    with pytest.raises(run_page.PageNotInstalledError, match="pip install apflow-server"):
        run_page.split_page()
