"""Traces and metrics of calls of language models, by the semantic conventions of OpenTelemetry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry

from apflow.core import BaseTask, MemoryStore, TaskCreator, TaskExecutor, executor_register, get_registry
from apflow.core.extensions.model_account import ModelAnswer, ModelRequest
from apflow.core.extensions.model_calls import model_call, observing_model_calls
from apflow.core.model.usage import ModelUsage
from apflow.core.settings import overridden_defaults
from apflow.server.observability import model_metrics
from apflow.server.observability.model_metrics import ModelMetrics
from apflow.server.observability.trace import Tracing, number, run_name


class Asks(BaseTask):
    """Calls a model."""

    id = "asks"

    async def execute(self, inputs: dict[str, Any]) -> Any:
        request = ModelRequest(
            model="openai/gpt-4o",
            provider="openai",
            parameters={"temperature": 0.5, "tools": []},
            messages=[{"role": "user", "content": "Capital?"}],
            address="http://127.0.0.1:8000/v1",
        )
        async with model_call(request) as call:
            if inputs.get("fails"):
                raise ConnectionError("gone")
            usage = ModelUsage(input_tokens=10, output_tokens=5, cached_tokens=4, cost_usd=0.25)
            tools = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
            shown = [{"role": "assistant", "content": "Paris", "tool_calls": tools}]
            call.record(usage, ModelAnswer(model="gpt-4o-x", finish_reasons=["stop"], messages=shown))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    executor_register(Asks)
    yield
    get_registry().unregister("asks")


async def spans_of(inputs: dict[str, Any], reader: InMemoryMetricReader | None = None) -> list[ReadableSpan]:
    """Run a tree with a call, and return the spans."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), reader)
    db = MemoryStore()
    asks = {"id": "a", "name": "asks", "parent_id": "r", "inputs": inputs}
    await TaskCreator(db).create_task_tree_from_array([{"id": "r", "name": "report"}, asks])
    requested: list[Any] = []
    with (
        observing_model_calls(tracing.take_model_call),
        observing_model_calls(lambda call: requested.append(call.root and call.root.run_requested_at)),
    ):
        await TaskExecutor().execute_task_by_id("r", db_session=db)
    [span] = exporter.get_finished_spans()
    run = run_name("r", requested[0])
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (number(run, 16), number(f"{run} a", 8))
    return [span]


async def test_a_call_is_a_span_below_that_of_its_task():
    [span] = await spans_of({})
    assert (span.name, span.kind) == ("chat openai/gpt-4o", SpanKind.CLIENT)
    attributes = dict(span.attributes or {})
    assert attributes.pop("apflow.task.id") == "a"
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "openai/gpt-4o",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-4o-x",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.workflow.name": "report",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "apflow.usage.cost_usd": 0.25,
        "apflow.task.name": "asks",
        "apflow.tree.id": "r",
    }


async def test_prompts_and_answers_are_attributes_only_if_a_setting_says_so():
    with overridden_defaults(trace_model_content=True):
        [span] = await spans_of({})
    attributes = span.attributes or {}
    asked = json.loads(str(attributes["gen_ai.input.messages"]))
    answered = json.loads(str(attributes["gen_ai.output.messages"]))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "Capital?"}]}]
    assert [part["type"] for part in answered[0]["parts"]] == ["text", "tool_call"]


async def test_a_call_that_fails_is_an_error():
    [span] = await spans_of({"fails": True})
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ConnectionError"


async def test_tokens_and_duration_are_metrics():
    reader = InMemoryMetricReader()
    await spans_of({}, reader)
    data: Any = reader.get_metrics_data()
    found = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert set(found) == {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}
    points = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in found["gen_ai.client.token.usage"].data.data_points
    }
    assert points == {"input": 10, "output": 5}
    [duration] = found["gen_ai.client.operation.duration"].data.data_points
    assert duration.attributes["gen_ai.workflow.name"] == "report"
    assert duration.explicit_bounds[0] == 0.01


async def test_prometheus_counts_calls_with_a_bounded_number_of_models(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_metrics, "MAX_MODELS", 1)
    registry = CollectorRegistry()
    with observing_model_calls(ModelMetrics(registry).take):
        for model in ("a", "b", "c"):
            async with model_call(ModelRequest(model=model)) as call:
                call.record(ModelUsage(input_tokens=10, output_tokens=5, cost_usd=0.5))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("apflow_model_calls_total", model="a", outcome="ok") == 1
    assert value("apflow_model_calls_total", model="other", outcome="ok") == 2
    assert value("apflow_model_tokens_total", model="a", type="input") == 10
    assert value("apflow_model_cost_usd_total", model="other") == 1.0
