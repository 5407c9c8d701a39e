"""Check the language of the project: plain technical English in everything that people read.

The tool reads Markdown files, and the comments, docstrings, help texts and messages of Python files. It skips
code blocks, inline code, identifiers and strings without a space. It also skips lines that contain
`prose: allow`, which is for test data and quotations.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prose_rules import RULES, Rule
from repository import ROOT, report

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
ALLOW = "prose: allow"
FOLDERS = ("packages", "docs", "tools", "benchmarks", "tests-integration", "changelog.d")
# Programs of users, copied unchanged; the rules; generated modules, which repeat other docstrings.
SKIPPED = re.compile(r"tests-integration/seeds/|tools/prose_rules\.py|/template/|/node_modules/|/_generated_")
STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
BYTES = re.compile(r"r?b", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """A match of a rule, with its place."""

    path: Path
    line: int
    rule: Rule
    words: str

    def __str__(self) -> str:
        place = self.path.relative_to(ROOT)
        return f"{place}:{self.line}: {self.words!r} ({self.rule.name}). Write instead: {self.rule.advice}."


def findings_in(path: Path) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    allowed = {number for number, line in enumerate(text.splitlines(), 1) if ALLOW in line}
    for first, passage in _python_passages(text) if path.suffix == ".py" else _markdown_passages(text):
        for rule in RULES:
            for match in rule.pattern.finditer(passage):
                line = first + passage.count("\n", 0, match.start())
                if line not in allowed:
                    yield Finding(path, line, rule, " ".join(match.group().replace("#", " ").split()))


def _markdown_passages(text: str) -> Iterator[tuple[int, str]]:
    yield 1, CODE.sub(_blank, FENCE.sub(_blank, text))


def _python_passages(text: str) -> Iterator[tuple[int, str]]:
    """Yield strings, and comments, each with the number of its first line.

    Comments on consecutive lines are one passage, so that an expression is found across a line break.
    """
    comments: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            if comments and line != last + 1:
                yield last - len(comments) + 1, "\n".join(comments)
                comments = []
            last = line
            comments.append(CODE.sub(_blank, token.string))
        elif token.type in STRINGS and " " in token.string and not BYTES.match(token.string):
            yield line, CODE.sub(_blank, token.string)
    if comments:
        yield last - len(comments) + 1, "\n".join(comments)


def _blank(match: re.Match[str]) -> str:
    """Replace everything but line breaks, so that line numbers stay valid."""
    return re.sub(r"[^\n]", " ", match.group())


def files() -> Iterator[Path]:
    yield from sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md"} and not SKIPPED.search(path.as_posix()):
                yield path


def table(found: Sequence[Finding]) -> Iterator[str]:
    counts = Counter(finding.rule.name for finding in found)
    for name, count in counts.most_common():
        yield f"{count:6}  {name}"
    yield f"{len(found):6}  in total"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if there are findings")
    parser.add_argument("--count", action="store_true", help="print the number of findings of each rule")
    parser.add_argument("paths", nargs="*", type=Path, help="files or directories; default: the repository")
    options = parser.parse_args()
    chosen = [path.resolve() for path in options.paths] or [ROOT]
    found = [
        finding
        for path in files()
        if any(path.is_relative_to(each) for each in chosen)
        for finding in findings_in(path)
    ]
    if options.check:
        return report(list(map(str, found)))
    for line in table(found) if options.count else map(str, found):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
