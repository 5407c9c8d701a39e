"""Figures of calls of language models for Prometheus, at `/metrics`."""

from __future__ import annotations

import threading
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from apflow.core.extensions.model_account import EndedModelCall

MAX_MODELS: Final = 200  # labels; tasks name models, so there could be any number
OTHER: Final = "other"
SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 600)


class ModelMetrics:
    """Counts calls of models that are made in this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._models: set[str] = set()
        self._lock = threading.Lock()
        self._calls = Counter(
            "apflow_model_calls", "Calls of language models", ["model", "outcome"], registry=registry
        )
        self._tokens = Counter(
            "apflow_model_tokens", "Tokens of language models", ["model", "type"], registry=registry
        )
        self._cost = Counter(
            "apflow_model_cost_usd", "US dollars for language models", ["model"], registry=registry
        )
        self._seconds = Histogram(
            "apflow_model_call_seconds",
            "Seconds of calls of language models",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )

    def take(self, call: EndedModelCall) -> None:
        """Count one call. May be called from any thread."""
        model = self._label(call.request.model)
        self._calls.labels(model, "ok" if call.error_type is None else "error").inc()
        for kind, tokens in (("input", call.usage.input_tokens), ("output", call.usage.output_tokens)):
            self._tokens.labels(model, kind).inc(tokens)
        self._cost.labels(model).inc(call.usage.cost_usd or 0)
        self._seconds.labels(model).observe(call.seconds)

    def _label(self, model: str) -> str:
        with self._lock:
            if len(self._models) < MAX_MODELS:
                self._models.add(model)
            return model if model in self._models else OTHER
