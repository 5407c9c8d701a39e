from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import InvalidInputError
from apflow.core.payload import json_value
from apflow.core.payload.json_value import (
    copy_json,
    dumps,
    encode,
    is_deeper,
    loads,
    path_of,
    rewrite,
    size_of,
    storable,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
plain_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int):
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(plain_json)
def test_plain_json_is_stored_as_it_is_and_as_a_copy(value: object):
    stored, size = encode(value)
    assert stored == value
    assert type(stored) is type(value)
    assert size == size_of(value) == len(dumps(value))
    assert stored is not value or not isinstance(value, (dict, list))


@given(plain_json)
def test_a_large_value_is_read_back_in_parts_as_it_would_be_at_once(value: object):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_value, "LARGE", 4)
        patch.setattr(json_value, "ITEMS", 2)
        stored, size = encode(value)
    assert dumps(stored) == dumps(value)
    assert size == size_of(value)
    assert encode(value) == (stored, size)


def test_a_large_result_is_a_copy():
    value: dict[str, Any] = {"results": {f"leaf-{at}": {"done": True, "more": [at]} for at in range(20_000)}}
    stored, _ = encode(value)
    assert stored == value
    assert list(stored["results"]) == list(value["results"])
    value["results"]["leaf-7"]["more"].append("later")
    value["results"]["new"] = 1
    assert stored["results"]["leaf-7"] == {"done": True, "more": [7]}
    assert len(stored["results"]) == 20_000


@pytest.mark.parametrize("wrong", [{1, 2}, math.nan, 2**64, {1: 2}])
def test_invalid_json_in_a_large_value_is_rejected_with_its_path(wrong: object):
    with pytest.raises(InvalidInputError, match=r"result\.list\[39999\]"):
        encode({"list": [*["some text"] * 39_999, wrong]}, "result")


@given(plain_json)
def test_what_is_written_reads_back(value: object):
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value)) == value
    assert copy_json(value) == value


@given(
    st.recursive(
        st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_text_becomes_text_that_every_store_keeps(value: object):
    text = dumps(storable(value)).decode()
    assert "\0" not in json.loads(text if text.startswith('"') else json.dumps(text))
    assert "\\u0000" not in text.replace("\\\\", "")
    assert storable(storable(value)) == storable(value)


def test_nul_and_lone_surrogates_become_the_replacement_character():
    assert storable({"a\0": ["x\ud800y", "\0"]}) == {"a\ufffd": ["x\ufffdy", "\ufffd"]}
    assert storable("back\\u0000slash") == "back\\u0000slash"
    assert storable("\U0001f600") == "\U0001f600"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"a": [1, {"b": math.nan}]}, "result.a[1].b is nan"),
        ([math.inf], "result[0] is inf"),
        ({"a": {1: 2}}, "result.a has a key that is not text: int"),
        ({"n": 2**64}, "result.n is an integer beyond 64 bits"),
        ({"n": -(2**63) - 1}, "result.n is an integer beyond 64 bits"),
        ({"when it": datetime.now(UTC)}, 'result["when it"] is not JSON: datetime.datetime'),
        ({"s": {1}}, "result.s is not JSON: set"),
        (b"x", "result is not JSON: bytes"),
        ({"e": ValueError("secret")}, "result.e is not JSON: ValueError"),
    ],
)
def test_a_value_that_is_not_json_is_rejected_with_its_path(value: object, fault: str):
    with pytest.raises(InvalidInputError) as raised:
        storable(value, "result")
    assert str(raised.value).startswith(fault)
    assert len(raised.value.violations) == 1


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Real(float):
    pass


class Deep(dict[str, object]):
    pass


def test_subclasses_and_tuples_become_plain():
    stored = storable({Colour.RED: (Colour.RED, Number.ONE, Real(1.5)), "d": Deep(x=Deep())})
    assert stored == {"red": ["red", 1, 1.5], "d": {"x": {}}}
    assert [type(each) for each in stored["red"]] == [str, int, float]
    assert type(next(iter(stored))) is str
    assert type(stored["d"]["x"]) is dict


def test_the_order_of_keys_is_kept_on_the_slow_path_too():
    value = {"z": "\0", "a": ("\0",), "m": {"b": 1, "a": 2}}
    assert list(storable(value)) == ["z", "a", "m"]
    assert list(storable(value)["m"]) == ["b", "a"]


def test_depth_is_limited_and_counted_by_containers():
    assert storable(nested(64)) == nested(64)
    with pytest.raises(InvalidInputError, match="nested more than 64 deep"):
        storable(nested(65))
    assert storable({"wide": [[] for _ in range(100)]})
    with pytest.raises(InvalidInputError, match="nested more than 3 deep"):
        storable({"a": [[[]]]}, max_depth=3)


@pytest.mark.parametrize("depth", [300, 5_000, 100_000])
def test_hostile_nesting_is_refused_and_harms_nothing(depth: int):
    with pytest.raises(InvalidInputError):
        storable(nested(depth), "inputs")
    with pytest.raises(InvalidInputError):
        dumps(nested(depth))
    with pytest.raises(InvalidInputError):
        storable(loads("[" * depth + "]" * depth), "inputs")


def test_a_value_that_holds_itself_is_refused():
    value: dict[str, object] = {}
    value["self"] = value
    with pytest.raises(InvalidInputError, match="nested"):
        storable(value)


@given(plain_json, st.integers(0, 8))
def test_depth_is_measured_as_a_naive_count_does(value: object, limit: int):
    def depth(node: object) -> int:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else None
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    assert is_deeper(value, limit) == (depth(value) > limit)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "'a'", "[" * 5000, '{"a": 1e400}', b"\xff"])
def test_a_string_that_is_not_json_is_rejected(text: str | bytes):
    with pytest.raises(InvalidInputError, match="not JSON"):
        loads(text)


def test_an_escaped_lone_surrogate_reads_as_the_replacement_character():
    assert loads(r'{"a": "\ud800"}') == {"a": "\ufffd"}


@given(plain_json)
def test_rewriting_nothing_gives_an_equal_copy(value: object):
    assert rewrite(value, lambda node, _: node) == value


def test_paths_read_as_people_write_them():
    assert path_of("inputs", ["items", 0, "url", "a b", "", "x.y"]) == 'inputs.items[0].url["a b"][""]["x.y"]'
    assert path_of("", ["a", 1]) == "a[1]"
