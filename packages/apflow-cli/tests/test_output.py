from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from apflow.cli.display.output import encode, one_line, save_json, write_table, write_tree
from apflow.cli.errors.failure import describe, exit_code_of
from apflow.cli.inputs.source import parse
from apflow.client import ServerError, ServerUnreachableError
from apflow.core.errors import (
    ConflictError,
    NotFoundError,
    PluginError,
    StoreLockedError,
    TreeInvalidError,
    ValidationError,
)


def task(name: str, *children: Any) -> dict[str, Any]:
    return {"id": name, "name": name, "status": "pending", "error": None, "children": list(children)}


def test_a_document_tells_its_version_first():
    assert "".join(encode({"a": 1})) == '{"schema_version": 1, "a": 1}'


def test_a_tree_is_written_whole_and_in_order():
    tree = task("root", task("a", task("b")), task("c"))
    assert json.loads("".join(encode({"root": tree, "x": 1}))) == {"schema_version": 1, "x": 1, "root": tree}


def test_a_tree_of_any_depth_is_written(capsys: pytest.CaptureFixture[str]):
    tree = task("t0")
    for number in range(1, 20_000):
        tree = task(f"t{number}", tree)
    assert "".join(encode({"root": tree})).count('"children"') == 20_000
    write_tree(tree)
    assert len(capsys.readouterr().out.splitlines()) == 20_000


def test_text_that_a_terminal_would_obey_is_made_harmless():
    assert one_line("a\x1b[2Jb\r\nc\x9b\u202e") == r"a\x1b[2Jb\r c\x9b\u202e"
    assert one_line({"k": "v\n"}) == '{"k": "v\\n"}'
    assert one_line(None) == ""


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]):
    write_table(("id", "name"), [["1", "long name"], ["22", ""]])
    assert capsys.readouterr().out == "ID  NAME\n1   long name\n22\n"


def test_a_table_without_rows_has_its_header(capsys: pytest.CaptureFixture[str]):
    write_table(("id", "name"), [])
    assert capsys.readouterr().out == "ID  NAME\n"


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path):
    path = tmp_path / "outcome.json"
    path.write_text("before")
    with pytest.raises(TypeError):
        save_json(path, {"x": object()})
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('[{"name": "a"}]', [{"name": "a"}]),
        ("- name: a\n  at: 2026-01-01\n", [{"name": "a", "at": "2026-01-01"}]),
        ("name: a", {"name": "a"}),
    ],
)
def test_json_and_yaml_are_read_as_json_has_it(text: str, value: Any):
    assert parse(text, "here") == value


@pytest.mark.parametrize("text", ["[1,", "a: [", "!!python/object/apply:os.getcwd []"])
def test_what_is_neither_is_refused(text: str):
    with pytest.raises(click.UsageError, match="here"):
        parse(text, "here")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TreeInvalidError("no"), 2),
        (ValidationError("no"), 2),
        (NotFoundError("x"), 3),
        (ConflictError("no"), 4),
        (StoreLockedError(Path("x"), 1), 5),
        (ServerError("An incident.", 200), 5),
        (ServerUnreachableError("http://x", "nobody", was_sent=True), 5),
        (PluginError("broken"), 1),
        (TimeoutError("late"), 6),
        (ZeroDivisionError("no"), 1),
    ],
)
def test_errors_have_their_exit_codes(error: Exception, code: int):
    assert exit_code_of(error) == code


def test_violations_are_listed_once():
    text = describe(TreeInvalidError("Two faults: first", ["first", "second"]))
    assert text == "Error: Two faults: first\n  - second"


def test_a_fault_of_ours_says_so():
    assert "--debug" in describe(ZeroDivisionError("no"))
