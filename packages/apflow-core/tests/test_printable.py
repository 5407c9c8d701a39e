"""Text from tasks at a terminal or in a text log: it controls nothing, and is one line."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata

import pytest

from apflow.core.process.printable import TextFormatter, printable, printable_json

UNSAFE = [
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u061c", "\u200e", "\u200f", "\u2028", "\u2029",
    *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\ufeff", "\ud800", "\U000e0041",
]  # fmt: skip
HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\nERROR forged: b\x9b31m\x7f\u202egnp.exe\u2066\u2028c"


@pytest.mark.parametrize("unsafe", UNSAFE, ids=ascii)
def test_what_controls_a_terminal_is_escaped(unsafe: str):
    shown = printable(f"a{unsafe}b")
    assert unsafe not in shown
    assert shown[:2] == "a\\"
    assert all(unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in shown)
    assert json.loads(printable_json(json.dumps(f"a{unsafe}b", ensure_ascii=False))) == f"a{unsafe}b"


def test_every_control_of_unicode_is_covered_but_for_the_joiners():
    kept = {"\u200c", "\u200d"}  # of scripts and emoji
    controls = [each for each in map(chr, range(0x3000)) if unicodedata.category(each) in ("Cc", "Zl", "Zp")]
    directions = [
        each
        for each in map(chr, range(sys.maxunicode + 1))
        if unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]
    assert [each for each in [*controls, *directions] if each not in kept and printable(each) == each] == []


def test_ordinary_text_stays():
    for text in ("plain", "größe", "日本語", "a\u200cb", "👩\u200d💻", 'a "b" \\n'):
        assert printable(text) == text
        assert printable_json(text) == text
    assert printable("a\tb\nc\r", keeps_lines=True) == "a\tb\nc\\r"


def test_a_record_is_one_line_and_its_traceback_is_indented():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    logger = logging.Logger("test")  # noqa: LOG001 - apart from those of the process
    logger.addHandler(handler)
    logger.warning("Task %s failed", HOSTILE)
    try:
        raise ValueError(HOSTILE)  # noqa: TRY301 - as code of users does
    except ValueError:
        logger.exception("It failed")
    lines = stream.getvalue().split("\n")
    assert [line.split(":")[0] for line in lines if not line.startswith("  ")] == [
        "WARNING test",
        "ERROR test",
        "",
    ]
    assert all(line.isprintable() for line in lines)
    assert "  ERROR forged: b\\x9b31m\\x7f\\u202egnp.exe\\u2066\\u2028c" in lines
