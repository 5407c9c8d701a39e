"""Traces for OpenTelemetry: a run of a tree is a trace, each of its tasks a span.

Spans are made when their task has ended, from what was stored. Their ids follow from the tree and its run, so
that what several processes did of one run, after a crash for instance, makes one trace.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import defaultdict
from datetime import datetime
from importlib import import_module
from typing import Any, Final, cast

from opentelemetry.context import Context
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from apflow.core import plugins
from apflow.core.errors import SettingsError
from apflow.core.extensions.model_account import EndedModelCall
from apflow.core.model.event import FINAL, EventType, TaskEvent
from apflow.core.model.task import Task
from apflow.core.settings import Settings
from apflow.server.observability.model_trace import ModelMeter, otlp_reader, span_attributes, span_name
from apflow.server.observability.observation import Seen

ENDED: Final = {
    EventType.TASK_COMPLETED,
    EventType.TASK_FAILED,
    EventType.TASK_CANCELLED,
    EventType.TASK_SKIPPED,
}
CANCELLED: Final = "CancelledError"
MAX_RETRIES: Final = 10_000  # that are kept until their tasks end


class Tracing:
    """Makes spans of observed events, and passes them to a processor of the SDK."""

    def __init__(self, processor: SpanProcessor, reader: MetricReader | None = None) -> None:
        self._ids = _GivenIds()
        self._lock = threading.Lock()  # guards the ids: model calls end in any thread
        resource = Resource.create(
            {
                SERVICE_NAME: "apflow",
                SERVICE_VERSION: plugins.version("apflow-server") or "0",
            }
        )
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("apflow", plugins.version("apflow-core"))
        self._retries: dict[str, list[TaskEvent]] = defaultdict(list)
        self._meter = None if reader is None else ModelMeter(reader, resource)

    def take(self, seen: Seen) -> None:
        """Make a span where an event ends something."""
        event = seen.event
        if event.type is EventType.RETRYING and len(self._retries) < MAX_RETRIES:
            self._retries[event.task_id].append(event)
        elif event.type in ENDED:
            self._end_task(seen)
        elif event.type in FINAL:
            self._end_tree(seen)

    def take_model_call(self, call: EndedModelCall) -> None:
        """Make a span of a call of a language model, below that of its task. May be called in any thread."""
        if self._meter is not None:
            self._meter.take(call)
        began_at = nanoseconds(call.began_at)
        trace_id = parent_id = None
        if call.task is not None and call.root is not None:
            run = run_name(call.root.id, call.root.run_requested_at)
            trace_id, parent_id = number(run, 16), number(f"{run} {call.task.id}", 8)
        span = self._start(
            span_name(call),
            trace_id=trace_id or number(secrets.token_hex(), 16),
            span_id=number(secrets.token_hex(), 8),
            parent_id=parent_id,
            at=call.began_at,
            kind=SpanKind.CLIENT,
        )
        span.set_attributes(span_attributes(call))
        if call.error_type is not None and call.error_type != CANCELLED:
            span.set_status(Status(StatusCode.ERROR, call.error_type))
        span.end(began_at + int(call.seconds * 1e9))

    def close(self) -> None:
        """Send what waits, for some seconds at most. Blocks."""
        self._provider.shutdown()
        if self._meter is not None:
            self._meter.close()

    def _end_task(self, seen: Seen) -> None:
        event, task = seen.event, seen.task
        run = run_of(seen)
        parent = task.parent_id if task is not None and task.parent_id is not None else None
        span = self._start(
            task.name if task is not None else event.task_id,
            trace_id=number(run, 16),
            span_id=number(f"{run} {event.task_id}", 8),
            parent_id=number(f"{run} {parent}" if parent is not None else f"{run} tree", 8),
            at=(task.started_at if task is not None else None) or event.timestamp,
        )
        span.set_attributes(attributes_of(event, task))
        for each in self._retries.pop(event.task_id, ()):
            span.add_event("retry", retry_attributes(each), nanoseconds(each.timestamp))
        span.set_status(status_of(event))
        span.end(nanoseconds(event.timestamp))

    def _end_tree(self, seen: Seen) -> None:
        event, root, run = seen.event, seen.root, run_of(seen)
        span = self._start(
            f"tree {root.name}" if root is not None else "tree",
            trace_id=number(run, 16),
            span_id=number(f"{run} tree", 8),
            parent_id=None,
            at=seen.requested_at or event.timestamp,
        )
        span.set_attribute("apflow.tree.id", event.root_task_id)
        span.set_attribute("apflow.status", event.type.removeprefix("tree_"))
        if root is not None and root.user_id is not None:
            span.set_attribute("user.id", root.user_id)
        span.set_status(status_of(event))
        span.end(nanoseconds(event.timestamp))

    def _start(
        self,
        name: str,
        *,
        trace_id: int,
        span_id: int,
        parent_id: int | None,
        at: datetime,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> Span:
        context = Context()
        if parent_id is not None:
            flags = TraceFlags(TraceFlags.SAMPLED)
            parent = SpanContext(trace_id, parent_id, is_remote=False, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(parent), context)
        with self._lock:
            self._ids.trace_id, self._ids.span_id = trace_id, span_id
            return self._tracer.start_span(name, context, kind=kind, start_time=nanoseconds(at))


class _GivenIds(IdGenerator):
    """The ids that the next span is to have."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


def tracing_of(settings: Settings) -> Tracing | None:
    """Return what traces, where the settings name a collector.

    Raises:
        SettingsError: what sends to a collector is not installed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        exporter: Any = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise SettingsError(
            "APFLOW_OTLP_ENDPOINT is set, and what sends traces is not installed: "
            "pip install 'apflow-server[otlp]'"
        ) from error
    endpoint = settings.otlp_endpoint.rstrip("/")
    url = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces"
    return Tracing(BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=url)), otlp_reader(endpoint))


def run_of(seen: Seen) -> str:
    """Return a name for the run that an event belongs to, the same in every process."""
    return run_name(seen.event.root_task_id, seen.requested_at)


def run_name(root_id: str, requested_at: datetime | None) -> str:
    """Return a name for the run of a tree that was requested at a time, the same in every process."""
    when = requested_at.timestamp() if requested_at is not None else 0
    return f"{root_id} {when:.6f}"


def number(text: str, size: int) -> int:
    """Return an id of `size` bytes, derived from a string. It is never 0."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size]) or 1


def nanoseconds(moment: datetime) -> int:
    """Return a moment as OpenTelemetry counts."""
    return int(moment.timestamp() * 1_000_000) * 1000


def attributes_of(event: TaskEvent, task: Task | None) -> dict[str, AttributeValue]:
    """Return the attributes of a task's span, without its inputs and results."""
    found: dict[str, AttributeValue] = {
        "apflow.task.id": event.task_id,
        "apflow.tree.id": event.root_task_id,
        "apflow.status": str(event.status),
    }
    if task is not None:
        found |= {"apflow.task.name": task.name, "apflow.attempts": task.attempts}
        if task.executor is not None:
            found["apflow.executor"] = task.executor
    result = cast("object", event.result)
    kind = cast("dict[str, object]", result).get("error_type") if isinstance(result, dict) else None
    if event.error is not None and isinstance(kind, str):
        found["error.type"] = kind
    return found


def retry_attributes(event: TaskEvent) -> dict[str, AttributeValue]:
    """Return the attributes of a failed attempt."""
    data = cast("dict[str, AttributeValue | None]", event.data)
    found: dict[str, AttributeValue | None] = {
        "apflow.attempt": data.get("attempt"),
        "apflow.wait": data.get("wait"),
        "error.type": data.get("error_type"),
        "error.message": event.error,
    }
    return {name: value for name, value in found.items() if value is not None}


def status_of(event: TaskEvent) -> Status:
    """Return the OpenTelemetry status of an outcome."""
    if event.type in (EventType.TASK_COMPLETED, EventType.TREE_COMPLETED):
        return Status(StatusCode.OK)
    if event.type in (EventType.TASK_FAILED, EventType.TREE_FAILED):
        return Status(StatusCode.ERROR, event.error)
    return Status(StatusCode.UNSET)
