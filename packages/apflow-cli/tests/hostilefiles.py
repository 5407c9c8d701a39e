"""Files of tasks that no person writes: 200 and more, each of which must be refused with a reason."""

import json
from collections.abc import Iterator

ADD = {"name": "sum", "schemas": {"method": "add"}, "inputs": {"a": 1, "b": 2}}
LIMIT = 300_000  # characters of a file that repeats something


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents."""
    for number, text in enumerate(_json_texts()):
        yield f"{number}.json", text.encode("utf-8", "surrogatepass")
        yield f"json{number}.yaml", text.encode("utf-8", "surrogatepass")
    for number, text in enumerate(_yaml_texts()):
        yield f"yaml{number}.yaml", text.encode()
        yield f"yaml{number}.txt", text.encode()
    for number, content in enumerate(_bytes()):
        yield f"bytes{number}.json", content
        yield f"bytes{number}.yaml", content


def _deep(opening: str, closing: str = "") -> Iterator[str]:
    for levels in (73, 500, 2000, 100_000):
        times = min(levels, LIMIT // len(opening))
        yield opening * times + closing * times


def _json_texts() -> Iterator[str]:
    yield from _deep("[", "]")
    yield from _deep("[")
    yield from _deep('{"a":', "1}"[1:])
    yield from _deep('[{"name": "a", "inputs": {"x":')
    for levels in (66, 90, 900, 50_000):
        inside = "[" * levels + "]" * levels
        yield f'[{{"name": "a", "inputs": {{"x": {inside}}}}}]'
    for pair in (
        '"name": "a", "name": "b"',
        '"name": "a", "inputs": {"x": 1, "y": {}, "x": 1}',
        '"name": "a", "\\u006eame": "a"',
        '"name": "a", "policy": {"retry": {"delay": 1, "delay": 2}}',
    ):
        yield f"[{{{pair}}}]"
        yield f'{{"tasks": [{{{pair}}}]}}'
        yield json.dumps([ADD] * 2000)[:-1] + f", {{{pair}}}]"
    yield '{"tasks": [], "tasks": [{"name": "a"}]}'
    yield '{"name": "a"' + ', "k": 1' * 40_000 + "}"
    for value in (
        "NaN",
        "-Infinity",
        "1e999",
        "-1e999",
        "1" * 5000,
        "-" + "1" * 30_000,
        "18446744073709551617",
        "\ud800",
    ):
        yield f'[{{"name": "a", "inputs": {{"x": {value}}}}}]'
    yield from (
        "[",
        "{",
        "]",
        '"',
        '["a',
        "[1,]",
        '{"a"}',
        "[1 2]",
        "nul",
        "[]]",
        "/* c */ [",
        "\x00",
        "[\x01]",
        '["\t"]',
        "\ufeff\ufeff[]",
    )
    for value in (
        "null",
        "true",
        "3",
        '"text"',
        "[]",
        "{}",
        "[[]]",
        "[1]",
        "[null]",
        '{"tasks": 1}',
        '{"tasks": []}',
    ):
        yield value
    for task in (
        "{}",
        '{"name": ""}',
        '{"name": 1}',
        '{"name": "a", "nonsense": 1}',
        '{"name": "a", "priority": 1e300}',
        '{"name": "a", "inputs": []}',
        '{"name": "a", "dependencies": ["a"]}',
        '{"name": "a", "parent_id": "x"}',
        '{"name": "a", "policy": {"timeout": -1}}',
        '{"name": "a", "schemas": 3}',
    ):
        yield f"[{task}]"
    yield json.dumps([{"id": f"t{n}", "name": "a", "parent_id": f"t{(n + 1) % 3000}"} for n in range(3000)])
    yield json.dumps([{"name": "a", "inputs": {"x": "y" * 1_100_000}}])


def _yaml_texts() -> Iterator[str]:
    for width, levels in ((9, 9), (2, 40), (1, 100), (1000, 3), (30, 5)):
        rows = [f"a0: &a0 [{', '.join(['lol'] * width)}]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
        yield "\n".join([*rows, "name: a"])
        rows = ["a0: &a0 {x: lol}"]
        rows += [
            f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(width))}}}" for n in range(1, levels)
        ]
        yield "\n".join([*rows, "name: a"])
    yield "- name: a\n  inputs: &x {big: &big '" + "y" * 100_000 + "', all: [" + "*big, " * 1000 + "]}"
    yield (
        "- name: a\n  inputs: {<<: [&m {"
        + ", ".join(f"k{n}: 1" for n in range(1000))
        + "}, "
        + "*m, " * 5000
        + "]}"
    )
    yield from (
        "&a [*a]",
        "&a {name: a, inputs: *a}",
        "[&a {name: a, inputs: {x: *a}}]",
        "&a\n- *a",
        "&a {<<: *a}",
        "[&a {name: &b {x: *b}}]",
        "[*a]",
        "&a *a",
    )
    yield from _deep("[", "]")
    yield from _deep("{a: ")
    yield from _deep("- ")
    yield from _deep("? ")
    yield "".join(f"{' ' * n}a:\n" for n in range(700))
    for pair in (
        "name: a\nname: b",
        "name: a\n'name': b",
        'name: a\n"n\\u0061me": b',
        "name: a\n? name\n: b",
    ):
        yield pair
        yield "tasks:\n- " + pair.replace("\n", "\n  ")
    for value in (
        ".inf",
        "-.INF",
        ".nan",
        "1e999",
        "1" * 5000,
        "0x" + "f" * 4000,
        "!!python/name:os.system",
        "!!binary aGk=",
        "!!timestamp 2026-01-02",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!x 1",
        "!!int x",
        "!!bool no",
        "!<tag:x> 1",
        "18446744073709551617",
    ):
        yield f"- name: a\n  inputs: {{x: {value}}}"
    yield from (
        "a: [",
        "a: b: c",
        "\ta: 1",
        "- a\nb",
        "'",
        '"\\q"',
        "%YAML 3.0\n---\na",
        "%TAG ! x\n%TAG ! x\n---\na",
        "&",
        "*",
        "@a",
        "`a",
        "a: 1\n--- \nb: 2",
        "a: |2x\n b",
        "{a: 1, : 2}",
        "? {a: 1}\n: 2",
        "!!int 1: 2",
        "a: !<\n",
        "# nothing\n",
        "---\n...\n",
        "just text",
        "- 1\n- 2",
        "%TAG !a! b\n" * 20_000 + "---\na: 1",
        "&" + "a" * 100_000,
        "a" * 100_000 + ": [",
    )


def _bytes() -> Iterator[bytes]:
    yield b""
    yield b" \n\t"
    yield b"\xff\xfe[\x00]\x00"
    yield b"\x00" * 1000
    yield b"[\xc3]"
    yield b"\x89PNG\r\n\x1a\n"
    yield b"\x1f\x8b\x08\x00"
    yield b"[\xed\xa0\x80]"
