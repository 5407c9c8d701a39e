"""Calls of language models for OpenTelemetry, by the semantic conventions of generative AI.

Each call is a span below the span of its task, and is counted in the metrics `gen_ai.client.token.usage` and
`gen_ai.client.operation.duration`. Prompts and answers are attributes only if the setting
`APFLOW_TRACE_MODEL_CONTENT` is on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, cast
from urllib.parse import urlsplit

from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.types import AttributeValue

from apflow.core.extensions.model_account import EndedModelCall
from apflow.core.model.task import Json

# Names of LiteLLM -> names of the conventions.
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
PARAMETERS: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
# The boundaries that the conventions name.
TOKENS: Final = tuple(float(4**power) for power in range(14))
SECONDS: Final = tuple(0.01 * 2**power for power in range(14))


def span_name(call: EndedModelCall) -> str:
    """Return the name of the span of a call."""
    return f"{call.request.operation} {call.request.model}"


def common_attributes(call: EndedModelCall) -> dict[str, AttributeValue]:
    """Return the attributes that spans and metrics have in common."""
    request, answer = call.request, call.answer
    found: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": request.operation,
        "gen_ai.provider.name": PROVIDERS.get(request.provider or "", request.provider),
        "gen_ai.request.model": request.model,
        "gen_ai.response.model": answer.model,
        "gen_ai.workflow.name": None if call.root is None else call.root.name,
        "error.type": call.error_type,
        **_address(request.address),
    }
    return {name: value for name, value in found.items() if value is not None}


def span_attributes(call: EndedModelCall) -> dict[str, AttributeValue]:
    """Return the attributes of the span of a call."""
    usage, answer = call.usage, call.answer
    found: dict[str, AttributeValue | None] = {
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": list(answer.finish_reasons) or None,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
        "gen_ai.input.messages": _messages(call.request.messages),
        "gen_ai.output.messages": _messages(answer.messages),
        "apflow.usage.cost_usd": usage.cost_usd,
        "apflow.usage.is_estimated": usage.is_estimated or None,
    }
    if call.task is not None:
        found |= {
            "apflow.task.id": call.task.id,
            "apflow.task.name": call.task.name,
            "apflow.tree.id": call.task.root_id,
            "user.id": call.task.user_id,
        }
    found |= _parameters(call.request.parameters)
    return common_attributes(call) | {name: value for name, value in found.items() if value is not None}


def _address(url: str | None) -> dict[str, AttributeValue | None]:
    parts = urlsplit(url or "")
    try:
        return {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:  # the port is not a number
        return {}


def _parameters(parameters: Mapping[str, Json]) -> dict[str, AttributeValue | None]:
    return {
        attribute: value
        for name, attribute in PARAMETERS.items()
        if isinstance(value := parameters.get(name), int | float)
    }


def _messages(messages: Json) -> str | None:
    """Return messages in the format of the conventions, as JSON."""
    if not isinstance(messages, list):
        return None
    shown = [
        _message(cast("dict[str, Json]", each))
        for each in cast("list[Json]", messages)
        if isinstance(each, dict)
    ]
    return json.dumps(shown, ensure_ascii=False, default=str)


def _message(message: dict[str, Json]) -> dict[str, Json]:
    content = message.get("content")
    parts: list[Json] = []
    if message.get("role") == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif isinstance(content, str) and content:
        parts.append({"type": "text", "content": content})
    elif isinstance(content, list):
        parts += [_part(each) for each in cast("list[Json]", content)]
    calls: list[dict[str, Json]] = message.get("tool_calls") or []
    for call in calls:
        function: dict[str, Json] = call.get("function") or {}
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return {"role": message.get("role"), "parts": parts}


def _part(part: Json) -> Json:
    if isinstance(part, dict):
        given = cast("dict[str, Json]", part)
        return {"type": "text", "content": given.get("text")} if given.get("type") == "text" else given
    return part


class ModelMeter:
    """Sends the metrics of the conventions."""

    def __init__(self, reader: MetricReader, resource: Resource) -> None:
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._provider.get_meter("apflow")
        self._tokens: Histogram = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self._seconds: Histogram = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )

    def take(self, call: EndedModelCall) -> None:
        """Count one call. May be called from any thread."""
        attributes = common_attributes(call)
        self._seconds.record(call.seconds, attributes)
        counts = (("input", call.usage.input_tokens), ("output", call.usage.output_tokens))
        for kind, tokens in counts:
            if tokens:
                without_error = {name: each for name, each in attributes.items() if name != "error.type"}
                self._tokens.record(tokens, {**without_error, "gen_ai.token.type": kind})

    def close(self) -> None:
        """Send what waits, for some seconds at most. Blocks."""
        self._provider.shutdown()


def otlp_reader(endpoint: str) -> MetricReader:
    """Return the reader that sends metrics to a collector.

    Args:
        endpoint: the base URL of the collector, or that of its traces.
    """
    exporter: Any = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    export: Any = import_module("opentelemetry.sdk.metrics.export")
    url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/metrics"
    reader: MetricReader = export.PeriodicExportingMetricReader(exporter.OTLPMetricExporter(endpoint=url))
    return reader
