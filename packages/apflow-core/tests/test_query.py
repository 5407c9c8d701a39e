"""Searches by JMESPath: as the library does them, and no longer and no larger than is good."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import QueryError
from apflow.core.payload.jmespath import Query

DOCUMENT = {
    "items": [{"id": at, "tags": ["a", "b"], "price": at / 2} for at in range(5)],
    "name": "of it",
    "more": {"x": {"y": [1, 2, 3]}},
}
EXPRESSIONS = [
    "items[*].id", "items[?price > `1`].{id: id, all: tags}", "items[].tags[]", "[name, more.x]",
    "more.*.y | [0]",
    "length(items)", "sort_by(items, &price)[-1].id", "map(&[id, id], items)", "join(', ', items[0].tags)",
    "items[1:3]", "items == items", "more.x != more", "to_string(more)", "not_here", "name || items", "!name",
    "merge(more, {a: name})", "max_by(items, &price).id", "@", "items[?contains(tags, 'a')] | length(@)",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abxy"), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_gives_what_the_library_gives(text: str):
    assert Query(text).search(DOCUMENT) == jmespath.search(text, DOCUMENT)


@given(
    document=JSON,
    text=st.sampled_from(["a[].b", "*.[a, b]", "a == b", "[a, [b]][]", "a[*].*", "{a: @, b: a}"]),
)
def test_so_it_does_on_any_value(document: Any, text: str):
    assert Query(text).search(document) == jmespath.search(text, document)


@pytest.mark.parametrize("text", ["", "a[", "(", "a" + "[?b" * 900, "unknown(", "'"])
def test_an_invalid_expression_is_rejected(text: str):
    with pytest.raises(QueryError):
        Query(text)


@pytest.mark.parametrize("text", ["length(`5`)", "nothing(@)", "sum(@)", "sort_by(items, &tags)"])
def test_a_failed_evaluation_is_reported(text: str):
    with pytest.raises(QueryError):
        Query(text).search(DOCUMENT)


NUMBERS = list(range(200_000))
HOSTILE = {
    "lists": ("|".join(["[@,@]"] * 300), [1]),
    "objects": ("|".join(["{a:@,b:@}"] * 200), [1]),
    "flattened": ("|".join(["[@,@][]"] * 200), [1]),
    "texts": ("|".join(["to_string([@,@])"] * 100), "x"),
    "joined": ("|".join(["join('', [@,@])"] * 100), "x"),
    "mapped": ("|".join(["map(&[@,@], [@,@])"] * 100), 1),
    "projected": ("[*].[" + ",".join(["@"] * 900) + "]", NUMBERS),
    "filtered": ("[?" + " && ".join(["@ >= `0`"] * 150) + "]", NUMBERS * 10),
    "sliced": ("|".join(["[0:]"] * 100), NUMBERS),
    "compared": (" && ".join(["a == b"] * 200), {"a": NUMBERS * 5, "b": NUMBERS * 5}),
    "equal in depth": ("[[[@,@],@],[[@,@],@]] | " * 30 + "[0] == [1]", ["x"]),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_ends_with_an_error(name: str):
    text, value = HOSTILE[name]
    with pytest.raises(QueryError, match=r"it makes more than|it takes too long"):
        Query(text).search(value)


def test_a_large_value_is_searched_in_good_time():
    rows = [{"id": at, "name": f"row {at}", "tags": ["a", "b"]} for at in range(100_000)]
    found = Query("rows[?id >= `10`].{id: id, name: name, tag: tags[0]} | [0]").search({"rows": rows})
    assert found == {"id": 10, "name": "row 10", "tag": "a"}
