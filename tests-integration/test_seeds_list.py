"""The list of the pieces of code that the documents print: none is missing, and each is where it says.

`seeds/list.toml` names, for each piece, the test that runs it and the frame that completes it, or why no test
does. With the folder of the documents in the variable SEED_DOCUMENTS, the pieces are also compared with them.
"""

import os
import re
import tomllib
from pathlib import Path

import pytest
from seedprograms import PRINTED

TESTS = Path(__file__).parent
CREWAI = TESTS.parent / "packages" / "apflow-executor-crewai" / "tests"
LIST = tomllib.loads((PRINTED / "list.toml").read_text())
PIECES = {
    f"{folder}/{name}": entry for folder, table in LIST["pieces"].items() for name, entry in table.items()
}
# What is ours in the folder, beside the pieces.
OURS = {"README.md", "list.toml", "ruff.toml", "frame.py", "pieces.py", "printed.py", "cancelled.py"}
# A line of a document that is code, where no fence says so.
CODE = re.compile(
    r"[@{}\"\])]|(from|import|def|class|async|await|return|for|if|try|except|with|assert|pip|apflow|print)\b"
    r"|# |\w+ ?= "
)


def lines(text: str) -> list[str]:
    """Return the lines of a string without indentation, which some of the documents have lost."""
    return [re.sub(r"\s+", " ", line.strip()) for line in text.splitlines() if line.strip()]


def missing_code(document: str, pieces: list[str]) -> list[str]:
    """Return the lines of a document that are code and in none of the pieces."""
    printed = lines(document)
    is_known = [False] * len(printed)
    for piece in map(lines, pieces):
        for start in range(len(printed)):
            if printed[start : start + len(piece)] == piece:
                is_known[start : start + len(piece)] = [True] * len(piece)
    fenced, is_in_fence = set[int](), False
    for number, line in enumerate(printed):
        if line.startswith("```"):
            is_in_fence = not is_in_fence
        elif is_in_fence and line.isascii():  # a drawing is not
            fenced.add(number)
    has_fences = bool(fenced)
    return [
        line
        for number, (line, known) in enumerate(zip(printed, is_known, strict=True))
        if not known and (number in fenced if has_fences else CODE.match(line))
    ]


def test_every_file_is_on_the_list_and_every_piece_is_a_file():
    found = (each.relative_to(PRINTED) for each in PRINTED.rglob("*") if each.is_file())
    files = {str(each) for each in found if not re.match(r"\.|.*__pycache__", str(each))}
    assert files - OURS - {*PIECES} == set()
    assert {*PIECES} - files == set()


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_is_run_by_the_test_that_the_list_names_or_has_a_reason(piece: str):
    entry = PIECES[piece]
    assert entry.keys() <= {"test", "frame", "reason"}
    assert ("test" in entry) != ("reason" in entry)
    assert all(len(text) > 3 for text in entry.values())
    if "test" in entry:
        file, _, function = entry["test"].partition("::")
        source = next(each / file for each in (TESTS, CREWAI) if (each / file).is_file()).read_text()
        assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE)
        assert re.search(rf"(\b|_){re.escape(Path(piece).stem)}\b", source), (
            "no test of the file names the piece"
        )


def test_the_counts_of_the_list_are_true():
    runs = [entry for entry in PIECES.values() if "test" in entry]
    framed = [entry for entry in runs if "frame" in entry]
    counts = {"printed": len(PIECES), "run": len(runs), "framed": len(framed)}
    assert LIST["counts"] == counts | {"not_run": len(PIECES) - len(runs)}


def test_code_that_is_in_no_piece_is_found():
    document = "Read this.\nimport os\n  x = 1\nThe end = good\n```python\ny()\n```\n"
    assert missing_code(document, ["y()"]) == []
    assert missing_code(document, []) == ["y()"]
    without_fences = document.replace("```python\n", "").replace("```\n", "")
    assert missing_code(without_fences, ["import os\nx  = 1"]) == []
    assert missing_code(without_fences, ["x = 1"]) == ["import os"]


if "SEED_DOCUMENTS" in os.environ:

    @pytest.mark.parametrize("beginning", LIST["documents"])
    def test_a_document_prints_the_pieces_of_the_list_and_no_others(beginning: str):
        [path] = Path(os.environ["SEED_DOCUMENTS"]).glob(f"{beginning}*")
        folders = LIST["documents"][beginning]
        pieces = {name: (PRINTED / name).read_text() for name in PIECES if name.partition("/")[0] in folders}
        document = path.read_text()
        printed = "\n".join(lines(document))
        assert [name for name, text in pieces.items() if "\n".join(lines(text)) not in printed] == []
        assert missing_code(document, [*pieces.values()]) in ([], ["# aipartnerupflow"])
