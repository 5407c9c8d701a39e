from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from apflow.core.errors import ValidationError
from apflow.core.payload.schema import InputSchema, check_schema, compile_schema


def compiled(source: Any) -> InputSchema:
    schema = compile_schema(source)
    assert schema is not None
    return schema


def filled(source: Any, value: dict[str, Any]) -> dict[str, Any]:
    compiled(source).fill_defaults(value)
    return value


def violations(source: Any, value: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        compiled(source).validate(value)
    return raised.value.violations


def test_every_violation_is_listed_with_its_path():
    schema = {
        "type": "object",
        "properties": {"url": {"type": "object"}, "n": {"items": {"minimum": 3}}, "a b": {"type": "null"}},
        "required": ["x"],
    }
    assert sorted(violations(schema, {"url": "x", "n": [4, 1], "a b": 1})) == [
        "inputs.n[1]: 1 is less than the minimum of 3",
        'inputs.url: "x" is not of type "object"',
        'inputs: "x" is a required property',
        'inputs["a b"]: 1 is not of type "null"',
    ]


names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("xyz", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
leaves = (
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "object", "array", "null", "boolean", "number"])}
    )
    | st.fixed_dictionaries({"enum": st.lists(values, min_size=1, max_size=3)})
    | st.fixed_dictionaries({"minimum": st.integers(-3, 3)})
    | st.fixed_dictionaries({"minLength": st.integers(0, 3), "pattern": st.sampled_from(["^x", "y$", "xy"])})
    | st.just({})
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=3)},
            optional={
                "required": st.lists(names, unique=True, max_size=2),
                "additionalProperties": st.booleans() | inner,
            },
        )
        | st.fixed_dictionaries({"items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"not": inner})
    ),
    max_leaves=5,
)


@given(schemas, values)
def test_validity_is_what_the_reference_validator_says(schema: dict[str, Any], value: object):
    found = compile_schema(schema)
    is_valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    if found is None or is_valid:
        assert found is None or found.validate(value) == value
    else:
        assert violations(schema, value)


def test_compiling_is_cached_by_content():
    assert compile_schema({"type": "object"}) is compile_schema({"type": "object"})
    assert compile_schema({"type": "object"}) is not compile_schema({"type": "array"})
    assert compile_schema(None) is None
    assert compile_schema({}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://localhost:1/schema.json"},
        {"properties": {"a": {"$ref": "https://example.com/a.json#/x"}}},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$schema": "http://localhost:1/meta"},
        {"$ref": "#/$defs/missing"},
        {"type": "strin"},
        {"properties": []},
        {"pattern": "("},
        {"required": "x"},
        {"default": object()},
    ],
)
def test_a_schema_that_is_wrong_or_needs_something_from_elsewhere_is_refused(schema: dict[str, Any]):
    with pytest.raises(ValidationError, match="JSON Schema"):
        check_schema(schema)


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(ValidationError):
        check_schema(schema)


def test_a_hostile_value_meets_an_error_and_not_the_end_of_the_stack():
    schema = {"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}}
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert "nested" in violations(schema, value)[0]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pattern", ["^(a+)+$", r"^(?=(a+)+$)b", r"(a|aa)+\1$"])
def test_a_hostile_pattern_cannot_stall(pattern: str):
    assert violations({"pattern": pattern}, "a" * 5000 + "!")


def test_long_values_do_not_drown_the_message():
    found = violations(
        {"properties": {"key": {"type": "object"}, "n": {"type": "string"}}}, {"key": "s" * 5000, "n": 1}
    )
    assert sorted(found) == [
        'inputs.key: value is not of type "object"',
        'inputs.n: 1 is not of type "string"',
    ]


def test_many_violations_are_bounded():
    assert len(violations({"items": {"type": "string"}}, [1] * 10_000)) == 100


def test_what_the_top_level_declares_is_known_through_references_and_all_of():
    schema = compiled(
        {
            "$ref": "#/$defs/a",
            "allOf": [{"properties": {"y": {"default": 2}}}],
            "$defs": {
                "a": {
                    "properties": {"x": {"type": "integer"}},
                    "required": ["x"],
                    "additionalProperties": False,
                }
            },
        }
    )
    assert set(schema.properties) == {"x", "y"}
    assert schema.required == {"x"}
    assert schema.defaults == {"y": 2}
    assert not schema.allows_additional


@pytest.mark.parametrize(
    ("part", "allows"),
    [
        ({}, True),
        ({"additionalProperties": True}, True),
        ({"additionalProperties": {}}, True),
        ({"additionalProperties": False}, False),
        ({"additionalProperties": {"type": "string"}}, False),
        ({"unevaluatedProperties": False}, False),
        ({"propertyNames": {"maxLength": 3}}, False),
        ({"maxProperties": 3}, False),
    ],
)
def test_a_schema_tells_whether_it_admits_other_properties(part: dict[str, Any], allows: bool):
    assert compiled({"type": "object", **part}).allows_additional is allows


def test_defaults_are_filled_at_the_top_and_inside_objects_that_are_there():
    schema = {
        "properties": {
            "mode": {"default": "fast"},
            "retry": {
                "properties": {"times": {"default": 3}, "deep": {"properties": {"x": {"default": []}}}}
            },
            "made": {"default": {}, "properties": {"y": {"default": 1}}},
            "list": {"items": {"properties": {"role": {"default": "user"}}}},
        }
    }
    assert filled(schema, {}) == {"mode": "fast", "made": {"y": 1}}
    assert filled(schema, {"mode": None, "retry": {"deep": {}}, "list": [{}, {"role": "a"}, 5]}) == {
        "mode": None,
        "retry": {"times": 3, "deep": {"x": []}},
        "made": {"y": 1},
        "list": [{"role": "user"}, {"role": "a"}, 5],
    }


def test_a_default_is_handed_out_as_a_copy():
    schema = {"properties": {"a": {"default": []}, "b": {"properties": {"c": {"default": []}}}}}
    first = filled(schema, {"b": {}})
    first["a"].append(1)
    first["b"]["c"].append(1)
    assert filled(schema, {"b": {}}) == {"a": [], "b": {"c": []}}


def test_a_schema_that_holds_itself_fills_defaults_as_deep_as_the_value():
    node = {"properties": {"size": {"default": 1}, "next": {"$ref": "#/$defs/node"}}}
    schema = {"$defs": {"node": node}, "properties": {"head": {"$ref": "#/$defs/node"}}}
    assert filled(schema, {"head": {"next": {"next": {"size": 5}}}}) == {
        "head": {"size": 1, "next": {"size": 1, "next": {"size": 5}}}
    }


class Options(BaseModel):
    retries: int = 3


class Inputs(BaseModel):
    data: str
    count: int = 10
    sloppy: int = None  # type: ignore[assignment]
    options: Options = Field(default_factory=Options)


def test_a_pydantic_class_validates_converts_and_gives_its_defaults():
    assert compiled(Inputs).validate({"data": "x", "count": "5", "dependency": {"a": 1}, "options": {}}) == {
        "data": "x",
        "count": 5,
        "sloppy": None,
        "options": {"retries": 3},
        "dependency": {"a": 1},
    }
    assert compiled(Inputs).required == {"data"}


def test_defaults_that_a_model_would_refuse_are_its_own_affair():
    assert compiled(Inputs).validate(filled(Inputs, {"data": "x"}))["sloppy"] is None


def test_a_pydantic_class_lists_every_violation_with_its_path():
    found = violations(Inputs, {"count": "x", "options": {"retries": []}})
    assert [each.split(":")[0] for each in found] == ["inputs.data", "inputs.count", "inputs.options.retries"]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = Field(default=1, alias="from")


def test_a_pydantic_class_may_forbid_more_and_goes_by_its_aliases():
    assert not compiled(Closed).allows_additional
    assert compiled(Closed).validate({"from": 4}) == {"from": 4}
    assert violations(Closed, {"b": 1}) == ["inputs.b: Extra inputs are not permitted"]


class Login(BaseModel):
    key: SecretStr
    others: list[SecretStr] = []


def test_secret_types_of_pydantic_reach_the_executor_in_clear():
    given_ = {"key": "clear", "others": ["one", "two"]}
    assert compiled(Login).validate(given_) == given_


def test_a_class_that_is_no_schema_is_refused():
    with pytest.raises(ValidationError):
        compile_schema(int)
