from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import InputsError, ValidationError
from apflow.core.model.task import Task
from apflow.core.payload.inputs import Reference, build_inputs, find_references, remap_references
from apflow.core.payload.schema import InputSchema, compile_schema


def task(inputs: dict[str, Any] | None = None, needs: str = "") -> Task:
    dependencies: Any = [{"id": each, "required": True} for each in needs.split()]
    return Task(id="t", name="t", root_id="t", inputs=inputs or {}, dependencies=dependencies)


def schema(declares: str = "", *, required: str = "", **more: Any) -> InputSchema:
    source = {
        "type": "object",
        "properties": {each: {} for each in declares.split()},
        "required": required.split(),
    }
    found = compile_schema(source | more)
    assert found is not None
    return found


def build(
    inputs: dict[str, Any] | None = None, schema: InputSchema | None = None, names: Any = None, **results: Any
) -> dict[str, Any]:
    return build_inputs(task(inputs, " ".join(results)), results, names or {}, schema)


def test_without_dependencies_the_inputs_are_a_copy_of_what_the_task_says():
    stored = {"url": "x", "items": [{"a": 1}]}
    built = build(stored)
    assert built == stored
    built["items"][0]["a"] = 2
    assert stored == {"url": "x", "items": [{"a": 1}]}
    assert build() == {}


def test_each_result_is_there_under_the_id_of_its_dependency():
    assert build({"x": 1}, a={"n": 1}, b=None, c=[2]) == {"x": 1, "a": {"n": 1}, "b": None, "c": [2]}


def test_in_trees_without_ids_a_result_is_there_under_the_name_too():
    assert build(names={"id1": "fetch"}, id1={"n": 1}) == {"id1": {"n": 1}, "fetch": {"n": 1}}


def test_an_executor_that_changes_a_result_changes_its_own_copy():
    results = {"a": {"list": [1]}}
    build_inputs(task(needs="a"), results, {}, None)["a"]["list"].append(2)
    build_inputs(task({"data": []}, "a"), {"a": results["a"]}, {}, schema("data list"))["a"]["list"].append(2)
    assert results == {"a": {"list": [1]}}


def test_a_schema_that_forbids_other_properties_keeps_whole_results_out():
    assert build({"x": 1}, schema("x", additionalProperties=False), a={"n": 1}) == {"x": 1}


@pytest.mark.parametrize("empty", [None, [], {}])
def test_a_declared_property_that_the_task_names_empty_is_filled(empty: object):
    assert build({"data": empty}, schema("data"), a={"data": [1, 2]})["data"] == [1, 2]
    assert build({"data": empty}, schema("data"), a={"status": "completed", "result": {"data": [3]}})[
        "data"
    ] == [3]


@pytest.mark.parametrize("full", ["", 0, False, [1], {"a": None}, "x"])
def test_what_the_task_says_is_never_replaced(full: object):
    assert build({"data": full}, schema("data"), a={"data": [1, 2]})["data"] == full


def test_a_property_that_the_schema_does_not_declare_is_not_filled():
    assert build({"data": []}, schema("other"), a={"data": [1]})["data"] == []
    assert build({"data": []}, None, a={"data": [1]})["data"] == []


def test_a_required_property_that_is_absent_and_has_no_default_is_filled():
    assert build({}, schema("data", required="data"), a={"data": 5})["data"] == 5
    assert "data" not in build({}, schema("data"), a={"data": 5})
    with_default = schema(required="data", properties={"data": {"default": 1}})
    assert build({}, with_default, a={"data": 5})["data"] == 1


def test_a_schema_may_say_that_only_named_properties_are_filled():
    only_named = schema("url", required="url", **{"x-named-only": True})
    assert "url" not in build({}, only_named, a={"url": "http://evil"})
    assert "url" not in build({}, only_named, url="http://evil")
    assert build({"url": None}, only_named, a={"url": "http://asked"})["url"] == "http://asked"


def test_the_first_dependency_that_has_it_fills_a_property():
    assert build({"data": []}, schema("data"), a={"x": 1}, b={"data": 2}, c={"data": 3})["data"] == 2


def test_the_outer_object_of_a_result_comes_before_its_inner_one():
    assert build({"data": []}, schema("data"), a={"data": 1, "result": {"data": 2}})["data"] == 1


def test_a_dependency_whose_id_is_an_input_of_the_task_does_not_overwrite_it():
    assert build({"data": [1]}, schema("data"), data={"n": 1})["data"] == [1]
    assert build({"data": []}, None, data={"n": 1})["data"] == {"n": 1}
    assert build({"data": []}, schema("data"), data=[1, 2])["data"] == [1, 2]
    assert build({"data": []}, schema("data"), a={"data": 1}, data={"data": 2})["data"] == 1


def test_defaults_come_last():
    with_default = schema(properties={"data": {"default": [0]}, "mode": {"default": "x"}})
    assert build({"data": []}, with_default, a={"data": [1]}) == {
        "data": [1],
        "a": {"data": [1]},
        "mode": "x",
    }
    assert build({"data": []}, with_default) == {"data": [], "mode": "x"}


def test_nested_defaults_leave_the_stored_inputs_alone():
    stored = {"retry": {}}
    nested = schema(properties={"retry": {"properties": {"times": {"default": 3}}}})
    assert build(stored, nested) == {"retry": {"times": 3}}
    assert stored == {"retry": {}}


def test_a_reference_becomes_the_result_or_a_part_of_it():
    result = {"rows": [{"id": 1}, {"id": 2}], "n": 0}
    inputs = {
        "all": {"$from": "a"},
        "deep": [{"x": {"$from": "a", "path": "rows[1].id"}}],
        "ids": {"$from": "a", "path": "rows[].id"},
        "zero": {"$from": "a", "path": "n", "default": 5},
        "none": {"$from": "a", "path": "nothing.here", "default": {"d": []}},
        "same": "$from",
    }
    built = build(inputs, a=result)
    del built["a"]
    assert built == {
        "all": result,
        "deep": [{"x": 2}],
        "ids": [1, 2],
        "zero": 0,
        "none": {"d": []},
        "same": "$from",
    }


def test_a_reference_to_an_optional_dependency_that_did_not_complete_is_null_or_its_default():
    unfinished = task(
        {"x": {"$from": "a"}, "y": {"$from": "a", "path": "b"}, "z": {"$from": "a", "default": 1}}, "a"
    )
    assert build_inputs(unfinished, {}, {}, None) == {"x": None, "y": None, "z": 1}


def test_every_reference_that_finds_nothing_is_named_with_its_path():
    inputs = {
        "u": [{"$from": "a", "path": "b.c"}],
        "v": {"$from": "b"},
        "w": {"$from": "a", "path": "abs(x)"},
        "k": {"$from": 5},
    }
    with pytest.raises(InputsError) as raised:
        build(inputs, a={"x": "text"})
    assert [each.split(":")[0] for each in raised.value.violations] == [
        "inputs.u[0]",
        "inputs.v",
        "inputs.w",
        "inputs.k.$from",
    ]
    assert isinstance(raised.value, ValidationError)


def test_an_object_with_other_keys_is_not_a_reference():
    inputs = {"x": {"$from": "a", "note": "data"}, "y": {"path": "a"}}
    assert find_references(inputs) == []
    assert build(inputs) == inputs


def test_a_result_that_looks_like_a_reference_or_a_secret_is_data():
    hostile = {"data": {"$from": "other"}, "s": {"$secret": "KEY"}}
    built = build({"data": [], "x": {"$from": "a", "path": "data"}}, schema("data"), a=hostile)
    assert built == {"data": {"$from": "other"}, "x": {"$from": "other"}, "a": hostile}


def test_the_inputs_as_a_whole_may_be_a_reference_to_an_object():
    assert build({"$from": "a", "path": "inner"}, a={"inner": {"x": 1}}) == {"x": 1, "a": {"inner": {"x": 1}}}
    with pytest.raises(InputsError, match="gives no object"):
        build({"$from": "a"}, a=[1])


@pytest.mark.parametrize("query", ["&x", "`NaN`", "nosuch(@)"])
def test_an_expression_that_makes_no_json_is_refused(query: str):
    with pytest.raises(InputsError, match=r"inputs\.x"):
        build({"x": {"$from": "a", "path": query}}, a={"x": 1})


def test_an_expression_that_makes_ever_more_is_stopped():
    with pytest.raises(InputsError, match=r"inputs\.x: the path .* makes more than"):
        build({"x": {"$from": "a", "path": "|".join(["[@,@]"] * 60)}}, a={"x": 1})


def test_references_are_found_in_order_with_their_places():
    inputs = {"x": [{"$from": "a"}, {"y": {"$from": "b", "path": "c", "default": None}}]}
    assert find_references(inputs) == [
        Reference("inputs.x[0]", "a"),
        Reference("inputs.x[1].y", "b", "c", None, has_default=True),
    ]


@pytest.mark.parametrize(
    "reference",
    [
        {"$from": ""},
        {"$from": None},
        {"$from": "a", "path": 5},
        {"$from": "a", "path": ""},
        {"$from": "a", "path": "x["},
        {"$from": "a", "path": "(" * 1500},
        {"$from": "a", "path": "x" * 5000},
        {"$from": "a", "path": "x", "default": {"deep": [{"$from": "b"}]}},
    ],
)
def test_a_malformed_reference_is_refused_at_creation(reference: dict[str, Any]):
    with pytest.raises(InputsError, match=r"inputs\.x"):
        find_references({"x": reference})


def test_remapping_changes_what_is_mapped_and_nothing_else():
    inputs = {"x": {"$from": "a", "path": "p"}, "y": [{"$from": "b"}], "z": {"$from": "a", "note": 1}}
    before = copy.deepcopy(inputs)
    assert remap_references(inputs, {"a": "A"}) == {**inputs, "x": {"$from": "A", "path": "p"}}
    assert inputs == before


keys = st.sampled_from(["a", "b", "c", "$from", "path", "default", "$secret"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "b", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(keys, json_values, max_size=4)


@given(objects, st.dictionaries(st.sampled_from("abc"), json_values, max_size=3))
def test_building_changes_neither_the_task_nor_the_results(inputs: dict[str, Any], results: dict[str, Any]):
    one = task(inputs, "a b c")
    before = copy.deepcopy((inputs, results))
    with contextlib.suppress(InputsError):
        assert set(results) <= set(build_inputs(one, results, {}, schema("a b c", required="a")))
    assert (inputs, results) == before


@given(objects)
def test_mapping_every_source_to_itself_changes_nothing(inputs: dict[str, Any]):
    assert remap_references(inputs, {"a": "a", "b": "b"}) == inputs


def test_deep_nesting_is_harmless():
    value: Any = {"$from": "a"}
    for _ in range(180):
        value = [value]
    assert find_references({"x": value})[0].source == "a"
