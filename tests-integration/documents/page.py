"""A page of `docs/`: its blocks of code, and the packages that it says to install."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from textwrap import dedent

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
SHELLS = frozenset({"console", "shell", "sh", "bash"})
"""Languages of blocks that a reader types into a shell."""
SHOWN = frozenset({"text", "mermaid"})
"""Languages of blocks that no program runs: output, and diagrams, which the build of the site checks."""
BLOCK = re.compile(
    r"^(?P<skip><!--- skip: next -->\n\n)?(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
INSTALL = re.compile(r"pip install (?P<what>(?:\\\n|[^\n`#&|;])+)")
REQUIREMENT = re.compile(r"[A-Za-z][\w.-]*(\[[\w,-]+\])?")
BRACES = re.compile(r"\{([\w,-]+)\}")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        line: the line of the page that its first line is.
        is_skipped: another test runs it, by the directive of Sybil before it.
    """

    language: str
    text: str
    line: int
    is_skipped: bool


@dataclass(frozen=True)
class Page:
    """A page with its blocks."""

    name: str
    text: str

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(
                found["language"],
                dedent(found["text"]),
                self.text.count("\n", 0, found.start("text")) + 1,
                found["skip"] is not None,
            )
            for found in BLOCK.finditer(self.text)
        ]

    @cached_property
    def program(self) -> str:
        """All Python blocks as one program, each at its line of the page, for tracebacks that name it."""
        lines: list[str] = []
        for block in self.blocks:
            if block.language == "python" and not block.is_skipped:
                lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
        return "\n".join(lines) + "\n" if lines else ""

    @cached_property
    def requirements(self) -> frozenset[str]:
        """What the page says to install with pip, in a block or in a sentence, without versions and paths."""
        found: set[str] = set()
        for install in INSTALL.finditer(self.text):
            for word in install["what"].replace("\\\n", " ").split():
                found.update(filter(REQUIREMENT.fullmatch, map(without_path, expanded(word.strip("\"'")))))
        return frozenset(found)

    @property
    def trees(self) -> list[str]:
        """The YAML blocks that are arrays of tasks."""
        texts = [block.text for block in self.blocks if block.language == "yaml"]
        return [text for text in texts if is_tree(yaml.safe_load(text))]


def is_tree(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value)


def without_path(word: str) -> str:
    return re.sub(r"^\./(packages/)?", "", word)


def expanded(word: str) -> list[str]:
    """Return what bash makes of a word with braces: `a-{b,c}` is `a-b` and `a-c`."""
    pieces = BRACES.split(word)
    choices = [piece.split(",") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(each) for each in product(*choices)]


def page_at(path: Path) -> Page:
    return Page(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """Return the pages of `docs/` with blocks of code."""
    found = [page_at(path) for path in sorted(DOCS.glob("**/*.md"))]
    return [page for page in found if page.blocks]


def base() -> frozenset[str]:
    """Return what the README installs, from which every page starts."""
    named = page_at(ROOT / "README.md").requirements
    return frozenset(each for each in named if each.startswith("apflow-"))
