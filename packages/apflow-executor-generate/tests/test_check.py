"""What is wrong with a generated tree."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.settings import Settings
from apflow.executor.generate.check import faults_of, has_reference, tasks_of
from apflow.executor.generate.prompt import messages_for
from apflow.executor.llm import LLMInputError
from apflow.executor.llm.model_choice import choose_model

SCHEMAS: dict[str, Any] = {
    "fetch": {
        "type": "object",
        "properties": {"url": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["url"],
        "additionalProperties": False,
    },
    "merge": {"type": "object", "properties": {"parts": {"type": "array"}}, "required": ["parts"]},
    "anything": None,
}


def task(identifier: str, method: str | None = "fetch", **more: Any) -> dict[str, Any]:
    inputs = {"url": "http://a"} if method == "fetch" else {}
    named = {"schemas": {"method": method}} if method else {}
    return {"id": identifier, "name": f"Do {identifier}", "inputs": inputs, **named, **more}


def faults(*tasks: dict[str, Any]) -> str:
    return "\n".join(faults_of({"tasks": list(tasks)}, SCHEMAS, Settings()))


def test_a_good_tree_has_no_faults():
    parts = [{"$from": "a", "path": "body"}, {"$from": "b"}]
    assert not faults(
        task("root", None),
        task("a", parent_id="root"),
        task("b", parent_id="root", inputs={"url": {"$secret": "URL"}}),
        task(
            "c", "merge", parent_id="root", inputs={"parts": parts}, dependencies=[{"id": "a"}, {"id": "b"}]
        ),
        task("d", "anything", parent_id="root", inputs={"x": 1}),
    )


@pytest.mark.parametrize(
    ("tasks", "fault"),
    [
        ([task("a", "fetsh")], "there is no executor 'fetsh'"),
        ([task("a", None)], "names no executor"),
        ([task("a", inputs={})], "url"),
        ([task("a", inputs={"url": 3})], "inputs.url"),
        ([task("a", inputs={"url": "x", "method": "GET"})], "method"),
        ([task("a"), task("b")], "root"),
        ([task("a", dependencies=["b"]), task("b", parent_id="a", dependencies=["a"])], "circle"),
        ([task("a"), task("b", parent_id="a", dependencies=[{"id": "z"}])], "z"),
        ([task("a"), task("b", "merge", parent_id="a", inputs={"parts": {"$from": "a"}})], "a"),
        ([task("a"), task("a", parent_id="a")], "a"),
        (
            [
                task("a", None),
                task("g", None, parent_id="a"),
                task("x", parent_id="g", dependencies=["y"]),
                task("y", parent_id="a", dependencies=["g"]),
            ],
            "wait for each other: 'Do",
        ),
        ([task("a", status="completed")], "'status' is not a field"),
        ([task("a", user_id="root")], "'user_id' is not a field"),
    ],
)
def test_a_fault_is_named(tasks: list[dict[str, Any]], fault: str):
    assert fault in faults(*tasks)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"tasks": []}, {"tasks": ["a"]}, "text", {"tasks": {"a": 1}}]
)
def test_what_is_not_an_array_of_tasks_is_a_fault(value: Any):
    assert tasks_of(value) is None
    assert "must be" in faults_of(value, SCHEMAS, Settings())[0]


def test_null_counts_as_absent_and_a_bare_array_is_accepted():
    assert not faults_of([task("a", parent_id=None)], SCHEMAS, Settings())


def test_references_are_found_anywhere():
    assert has_reference({"a": [{"b": {"$from": "x"}}]})
    assert not has_reference({"a": [{"b": "$from"}]})


def test_the_prompt_has_the_rules_the_executors_and_the_requirement():
    executor = {
        "id": "fetch",
        "name": "Fetch",
        "description": "Fetches.",
        "input_schema": {
            "type": "object",
            "properties": {"title": {"type": "string", "examples": ["x"], "description": "A title."}},
            "x-named-only": True,
        },
    }
    system, user = messages_for("Get orders.", [executor])
    assert '"title": {"type": "string", "description": "A title."}' in system["content"]
    assert "x-named-only" not in system["content"]
    assert user["content"].endswith("Get orders.")


@pytest.mark.parametrize(
    ("inputs", "environment", "model"),
    [
        ({}, {}, "openai/gpt-4o"),
        ({"provider": "anthropic"}, {}, "anthropic/claude-sonnet-4-5"),
        ({"llm_provider": "openai", "llm_model": "gpt-4"}, {}, "openai/gpt-4"),
        ({"model": "gpt-4"}, {}, "openai/gpt-4"),
        ({"model": "gpt-4"}, {"APFLOW_LLM_PROVIDER": "azure"}, "azure/gpt-4"),
        ({"model": "anthropic/claude-x"}, {"APFLOW_LLM_PROVIDER": "azure"}, "anthropic/claude-x"),
        ({"provider": "openrouter", "model": "google/x"}, {}, "openrouter/google/x"),
        ({}, {"AIPARTNERUPFLOW_LLM_PROVIDER": "anthropic"}, "anthropic/claude-sonnet-4-5"),
        ({}, {"APFLOW_LLM_MODEL": "m", "AIPARTNERUPFLOW_LLM_MODEL": "n"}, "openai/m"),
        ({"provider": "anthropic"}, {"APFLOW_LLM_MODEL": "gpt-4"}, "anthropic/claude-sonnet-4-5"),
    ],
)
def test_the_model_is_chosen(inputs: dict[str, Any], environment: dict[str, str], model: str):
    assert choose_model(inputs, environment) == model


def test_a_model_that_is_not_clear_is_an_error():
    with pytest.raises(LLMInputError, match="no default model"):
        choose_model({"provider": "groq"}, {})
    with pytest.raises(LLMInputError, match="differ"):
        choose_model({"provider": "groq", "llm_provider": "openai"}, {})
