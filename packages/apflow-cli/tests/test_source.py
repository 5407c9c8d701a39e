"""Files of tasks and inputs: well-formed, malformed and hostile ones."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hostilefiles import hostile_files
from hypothesis import given
from hypothesis import strategies as st

from apflow.cli.inputs.source import parse, read_source
from apflow.core.errors import MalformedTextError
from apflow.core.payload.yaml_text import EXPANSION, read_yaml

PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]
DEPTH = 72


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def read(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    return lambda text: read_yaml(text, max_depth=DEPTH, parser=request.param)


# The table of section 10.3.2 of YAML 1.2.2, and what YAML 1.1 reads otherwise.
CORE_SCHEMA = [
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("~", None),
    ("", None),
    ("nUll", "nUll"),
    ("None", "None"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("false", False),
    ("False", False),
    ("FALSE", False),
    ("tRue", "tRue"),
    ("yes", "yes"),
    ("no", "no"),
    ("No", "No"),
    ("NO", "NO"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("n", "n"),
    ("0", 0),
    ("-19", -19),
    ("+12", 12),
    ("01234", 1234),
    ("0o14", 12),
    ("0x3A", 58),
    ("0b11", "0b11"),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("12:30:45", "12:30:45"),
    ("-0o7", "-0o7"),
    ("0o8", "0o8"),
    ("0.", 0.0),
    ("-0.0", -0.0),
    (".5", 0.5),
    ("+12e03", 12000.0),
    ("-2E+05", -200000.0),
    ("1e3", 1000.0),
    ("1.5e-3", 0.0015),
    ("12e", "12e"),
    (".", "."),
    ("-.", "-."),
    ("1.2.3", "1.2.3"),
    ("2026-01-02", "2026-01-02"),
    ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
    ("=", "="),
    ("<<", "<<"),
    ("'no'", "no"),
    ('"12"', "12"),
    ("'~'", "~"),
    ("!!str 12", "12"),
    ("! 12", "12"),
    ("!!int '12'", 12),
    ("!!float 1", 1.0),
    ("!!bool 'true'", True),
    ("!!null ''", None),
    ("!!seq [1]", [1]),
    ("!!map {a: 1}", {"a": 1}),
    ("18446744073709551617", 18446744073709551617),
    ("|\n  no\n", "no\n"),
    (">-\n  a\n  b\n", "a b"),
]


@pytest.mark.parametrize(("text", "value"), CORE_SCHEMA)
def test_scalars_mean_what_the_core_schema_of_yaml_1_2_says(
    read: Callable[[str], Any], text: str, value: Any
):
    for document in (f"a: {text}", f"%YAML 1.2\n---\na: {text}", f"%YAML 1.1\n---\na: {text}"):
        assert read(document) == {"a": value}
        assert type(read(document)["a"]) is type(value)


def test_keys_are_text_as_it_is_written(read: Callable[[str], Any]):
    assert read("{1: a, true: b, no: c, ~: d, 1.50: e, 'x': f}") == {
        "1": "a",
        "true": "b",
        "no": "c",
        "~": "d",
        "1.50": "e",
        "x": "f",
    }


def test_aliases_and_merge_keys_are_read(read: Callable[[str], Any]):
    text = "- &base {a: 1, b: 2}\n- {<<: *base, b: 3}\n- *base\n- {<<: [*base, {b: 4, c: 5}]}\n"
    text += "- {&k x: 1, y: *k}\n"
    assert read(text) == [
        {"a": 1, "b": 2},
        {"b": 3, "a": 1},
        {"a": 1, "b": 2},
        {"a": 1, "b": 2, "c": 5},
        {"x": 1, "y": "x"},
    ]
    assert read("'<<': {a: 1}") == {"<<": {"a": 1}}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("ab:#\n-1eE.é ~no"),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("aé1:", min_size=1), inner, max_size=4)
        ),
    )
)
def test_json_means_the_same_as_yaml(value: Any):
    for indent in (None, 2):
        text = json.dumps(value, indent=indent)
        assert read_yaml(text, max_depth=DEPTH) == value


BOMB = "a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "column", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "key 'a' is repeated"),
        ("- {x: 1, 'x': 2}", 1, 10, "key 'x' is repeated"),
        ("1: a\n'1': b\n", 2, 1, "key '1' is repeated"),
        ("a: &k b\n*k : 1\nb: 2\n", 3, 1, "key 'b' is repeated"),
        ("a: &b {x: 1}\nc: {<<: *b, <<: *b}", 2, 13, "key '<<' is repeated"),
        ("a: &a [*a]", 1, 8, "inside what it stands for"),
        ("&a {b: *a}", 1, 8, "inside what it stands for"),
        ("a: &a {b: {<<: *a}}", 1, 16, "inside what it stands for"),
        ("a: *b", 1, 4, "no anchor"),
        (BOMB, 5, None, f"more than {EXPANSION + 10 * len(BOMB)} characters"),
        ("[" * 73 + "]" * 73, 1, 73, "more than 72 levels"),
        ("[" * 100_000, 1, 73, "more than 72 levels"),
        ("{a: " * 100_000, 1, 289, "more than 72 levels"),
        ("- " * 500, 1, 145, "more than 72 levels"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, 2, 44, "more than 72 levels"),
        ("? [a, b]\n: 1", 1, 3, "key must be text"),
        ("? {a: b}\n: 1", 1, 3, "key must be text"),
        ("a: 1\n? \n: 2", 3, None, "key is missing"),
        ("!!int 12: a", 1, 1, "takes no tag"),
        ("- .inf", 1, 3, ".inf is not a JSON value"),
        ("- .NaN", 1, 3, ".NaN is not a JSON value"),
        ("- 1e999", 1, 3, "too large"),
        ("- " + "1" * 5000, 1, 3, "5000 digits"),
        ("- 0x" + "1" * 5000, 1, 3, "5002 digits"),
        ("- !!int x", 1, 3, "'x' is not !!int"),
        ("- !!timestamp 2026-01-02", 1, 3, "!!timestamp"),
        ("- !!binary aGk=", 1, 3, "!!binary"),
        ("- !!set {a}", 1, 3, "!!set"),
        ("- !!python/object/apply:os.system [id]", 1, 3, "!!python/object/apply:os.system"),
        ("- !mine 1", 1, 3, "!mine"),
        ("<<: 1", 1, 5, "takes a mapping"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("%TAG !a! b\n" * 30_000 + "---\na: 1", 17, 1, "directives"),
        ("a: [1", 1, None, "flow sequence"),
        ("a: b: c", 1, 5, "mapping values"),
        ("a:\n\t- b", 2, 1, "cannot start any token"),
        ("'a", 1, None, "quoted scalar"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_yaml_that_is_refused_is_named_with_its_line_and_column(
    read: Callable[[str], Any], text: str, line: int, column: int | None, fault: str
):
    with pytest.raises(MalformedTextError) as caught:
        read(text)
    assert fault in caught.value.fault
    assert column is None or (caught.value.line, caught.value.column) == (line, column)


def test_aliases_may_be_used_as_people_use_them(read: Callable[[str], Any]):
    tasks = "".join(f"- {{name: t{number}, policy: *p}}\n" for number in range(2000))
    value = read("- &x {p: &p {timeout: 30, retry: {max_attempts: 3}}}\n" + tasks)
    assert value[2000] == {"name": "t1999", "policy": {"timeout": 30, "retry": {"max_attempts": 3}}}


def test_a_suffix_decides_between_json_and_yaml():
    assert parse("[{name: a}]", "x", suffix=".yaml") == [{"name": "a"}]
    assert parse("[{name: a}]", "x") == [{"name": "a"}]
    assert parse("\t[1]", "x", suffix=".yaml") == [1]
    for text, suffix, expected in [
        ("[{name: a}]", ".json", "not valid JSON: line 1, column 3"),
        ('{"a": 1, "a": 2}', ".yaml", "line 1, column 10: the key 'a' is repeated"),
        ('{"a": 1 "b"', "", "not valid JSON: line 1, column 9"),
        ("a: [", ".txt", "not valid YAML: line "),
        (" \n", ".json", "x is empty"),
    ]:
        with pytest.raises(click.UsageError, match=expected):
            parse(text, "x", suffix=suffix)


def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path):
    file = tmp_path / "tasks.json"
    file.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_source("--tasks-file", str(file)) == [1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\xff\xfea\0", "not text in UTF-8"), (b"[\0]", "null byte"), (b"[\xe9]", "not text in UTF-8")],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, content: bytes, expected: str):
    file = tmp_path / "tasks.json"
    file.write_bytes(content)
    with pytest.raises(click.UsageError, match=expected):
        read_source("--tasks-file", str(file))


def test_a_device_that_never_ends_is_refused():
    with pytest.raises(click.UsageError, match="null byte"):
        read_source("--tasks-file", "/dev/zero")


def test_a_pipe_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("apflow.cli.inputs.source.MAX_SIZE", 4 << 20)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def fill() -> None:
        try:
            with pipe.open("wb") as file:
                while True:
                    file.write(b" " * 65536)
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=fill)
    writer.start()
    with pytest.raises(click.UsageError, match="larger than 4 MiB"):
        read_source("--tasks-file", str(pipe))
    writer.join()


# Reads each file as the program does, and reports what that cost.
ANSWER_ALL = """
import contextlib, io, json, sys, time
from pathlib import Path
from apflow.cli import main
for file in sorted(Path("hostile").iterdir()):
    expected = io.StringIO()
    began = time.process_time()
    with contextlib.redirect_stderr(expected), contextlib.redirect_stdout(expected):
        code = main(["run", "flow", "--import", "works", "--tasks-file", str(file)])
    print(json.dumps([file.name, code, time.process_time() - began, expected.getvalue()[:3000]]), flush=True)
"""


def test_hostile_files_are_refused_soon_and_clearly(bare):
    (bare.folder / "hostile").mkdir()
    files = dict(hostile_files())
    assert len(files) >= 200
    for name, content in files.items():
        (bare.folder / "hostile" / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", ANSWER_ALL],
        cwd=bare.folder,
        env=bare.variables,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(files)
    unclear = [
        each for each in answers if each[1] != 2 or "fault in apflow" in each[3] or "Error: " not in each[3]
    ]
    assert unclear == []
    slowest = max(answers, key=lambda each: each[2])
    print(f"largest answer time {slowest[2]:.2f} s of the processor, {slowest[0]}")  # shown by `-s`
    assert slowest[2] < 1, slowest
