"""The trees and the commands in the documents are ones that apflow accepts; they are read, not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents.accepted import refused

from apflow.cli.inputs.file_check import check_file

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
]
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = ("console", "shell", "sh", "bash")
"""Languages of blocks that a reader types into a shell."""
ENDS = {"|", "||", "&&", ";", "&", ">", "2>", ">>", "<", ")", "]]", "\\"}
ASSIGNMENT = re.compile(r"^\w+=")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for indent, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield "\n".join(line.removeprefix(indent) for line in text.splitlines())


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of `apflow` in a block of a shell."""
    lines = text.replace("\\\n", " ").splitlines()
    typed = [line for line in lines if line.startswith("$ ")]  # the others are output
    for line in typed or lines:
        words = shell_words(line.removeprefix("$ "))
        for start, word in enumerate(words):
            is_first = start == 0 or words[start - 1] in ENDS or words[start - 1] in ("!", "nohup")
            is_after_settings = start > 0 and ASSIGNMENT.match(words[start - 1]) is not None
            if word == "apflow" and (is_first or is_after_settings):
                rest = words[start + 1 :]
                yield rest[: next((at for at, each in enumerate(rest) if each in ENDS), len(rest))]


def shell_words(line: str) -> list[str]:
    lexer = shlex.shlex(line.replace("$(", " ; ").replace("`", " "), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quotation that continues in the next line
        return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_the_options_that_it_gives(page: Path):
    faults = {
        f"apflow {shlex.join(each)}": fault
        for text in blocks(page, *SHELLS)
        for each in commands(text)
        if (fault := refused(each)) is not None
    }
    assert faults == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("apflow tasks lists", "lists"),
        ("$ APFLOW_COMMAND_ALLOW=wc apflow run flow x.yaml --outptu y", "--outptu"),
        ("sleep 1 && apflow ps one two three | grep x", "extra argument"),
        ("apflow frobnicate", "frobnicate"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, fault: str):
    [found] = [refused(each) for each in commands(line)]
    assert found is not None
    assert fault in found


def trees(page: Path) -> Iterator[str]:
    """Yield the blocks of a page that are arrays of tasks, as text, if they are whole trees."""
    for text in blocks(page, "yaml"):
        found: Any = yaml.safe_load(text)
        if isinstance(found, list) and all(isinstance(each, dict) and "name" in each for each in found):
            yield text


@pytest.mark.parametrize("page", [page for page in PAGES if any(trees(page))], ids=lambda page: page.stem)
def test_trees_of_a_page_are_ones_that_could_run(page: Path, tmp_path: Path):
    for text in trees(page):
        assert faults_of(text, tmp_path) == []


def test_a_wrong_input_of_a_tree_is_found(tmp_path: Path):
    wrong = "- name: x\n  schemas: {method: rest_executor}\n  inputs: {url: 'http://a', methd: GET}\n"
    assert "methd" in str(faults_of(wrong, tmp_path))


def faults_of(text: str, folder: Path) -> list[str]:
    """Return what is wrong with a tree, other than executors that the reader is to write."""
    file = folder / "tree.yaml"
    file.write_text(text)
    found = [each.message for each in check_file(str(file)).violations]
    return [each for each in found if not re.match("no executor is called", each, re.IGNORECASE)]
