"""Figures for Prometheus, at `/metrics`.

Local runs are counted from their events. The store is queried when metrics are requested, at most once every
few seconds. If callers need tokens, only an admin may read metrics.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Final, cast

from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from apflow.core.engine import active_runs
from apflow.core.engine.worker import workers_of
from apflow.core.extensions.registry import executor_is_known
from apflow.core.model.event import FINAL, EventType
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Task, utc_now
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import RefusedError
from apflow.server.observability.model_metrics import ModelMetrics
from apflow.server.observability.observation import Seen
from apflow.server.streaming.event_stream import KINDS

MAX_TREE_NAMES: Final = 100  # names of trees that have a separate label; further ones share one
MAX_NAME_LENGTH: Final = 100  # characters of a label
MAX_AGED: Final = 1000  # unfinished runs, of the trees created first, among which the oldest is searched
FRESH: Final = 5.0  # seconds that figures of the store are good for
WORKER_STATUSES: Final = ("running", "draining", "lost")
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
UNFINISHED: Final = TaskQuery(root_only=True, is_requested=True)
ENDED: Final = {
    EventType.TASK_COMPLETED: "completed",
    EventType.TASK_FAILED: "failed",
    EventType.TASK_CANCELLED: "cancelled",
    EventType.TASK_SKIPPED: "skipped",
}

router = APIRouter(tags=["probes"])


@router.get("/metrics", summary="Return figures for Prometheus.", response_class=Response)
async def metrics(request: Request, service: Annotated[TaskService, Depends(current_service)]) -> Response:
    """Return figures for Prometheus. Where callers bear tokens this takes an admin's."""
    if not service.is_admin:
        raise RefusedError("Figures of the whole server take an admin.")
    measured = cast("Metrics", request.app.state.metrics)
    await measured.refresh()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(measured.registry), media_type=None, headers={"Content-Type": content_type})


class Metrics(Collector):
    """The figures of one application."""

    def __init__(self, app: FastAPI) -> None:
        self.registry = CollectorRegistry()
        self._app = app
        self._asked_at = 0.0
        self._ended = Counter(
            "apflow_tasks_ended", "Tasks that ended here", ["executor", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "apflow_task_seconds",
            "Seconds from the start of a task to its end, with its retries",
            ["executor"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._retries = Counter(
            "apflow_task_retries", "Attempts that are repeated", ["executor"], registry=self.registry
        )
        self._trees = Counter(
            "apflow_trees_ended", "Runs that ended here", ["status"], registry=self.registry
        )
        self._trees_by_name = Counter(
            "apflow_trees_ended_by_name",
            "Runs that ended here, by the name of the tree",
            ["name", "status"],
            registry=self.registry,
        )
        self._tree_seconds = Summary(
            "apflow_tree_seconds",
            "Seconds from the request of a run to its end, by the name of the tree",
            ["name"],
            registry=self.registry,
        )
        self._names: set[str] = set()  # of trees, that have a label
        self._oldest = Gauge(
            "apflow_oldest_run_age_seconds",
            "Seconds since the request of the oldest unfinished run, by its state",
            ["state"],
            registry=self.registry,
        )
        self._tasks = Gauge("apflow_tasks", "Tasks in the database", ["status"], registry=self.registry)
        self._requested = Gauge(
            "apflow_runs_requested", "Runs in the database that have not ended", registry=self.registry
        )
        self._workers = Gauge(
            "apflow_workers", "Workers of the database, by status", ["status"], registry=self.registry
        )
        self._worker_calls = Gauge(
            "apflow_worker_calls", "Calls that workers make for other processes", registry=self.registry
        )
        self.models = ModelMetrics(self.registry)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def take(self, seen: Seen) -> None:
        """Count one event."""
        event = seen.event
        if event.type in ENDED:
            executor = label_of(seen)
            self._ended.labels(executor, ENDED[event.type]).inc()
            started_at = seen.task.started_at if seen.task is not None else None
            if started_at is not None and event.timestamp >= started_at:
                self._seconds.labels(executor).observe((event.timestamp - started_at).total_seconds())
        elif event.type is EventType.RETRYING:
            self._retries.labels(label_of(seen)).inc()
        elif event.type in FINAL:
            self._take_end(seen)

    def _take_end(self, seen: Seen) -> None:
        """Count the end of a run."""
        status = seen.event.type.removeprefix("tree_")
        self._trees.labels(status).inc()
        name = self._label_of_tree(seen.root.name if seen.root is not None else None)
        self._trees_by_name.labels(name, status).inc()
        if seen.requested_at is not None and seen.event.timestamp >= seen.requested_at:
            seconds = (seen.event.timestamp - seen.requested_at).total_seconds()
            self._tree_seconds.labels(name).observe(seconds)

    def _label_of_tree(self, name: str | None) -> str:
        """Return a label for the name of a tree: its own for the first names, so that there are not many."""
        if name is None:
            return "unknown"
        label = name[:MAX_NAME_LENGTH]
        if label not in self._names:
            if len(self._names) >= MAX_TREE_NAMES:
                return "other"
            self._names.add(label)
        return f":{label}" if label in ("other", "unknown") else label

    async def refresh(self) -> None:
        """Ask the store for what it holds, unless that was done a moment ago."""
        if time.monotonic() - self._asked_at < FRESH and self._asked_at:
            return
        self._asked_at = time.monotonic()
        db = self._app.state.db
        found = await db.count(TaskQuery())
        for status in TaskStatus:
            self._tasks.labels(str(status)).set(found.get(status, 0))
        requested = await db.count(UNFINISHED)
        self._requested.set(sum(requested.values()))
        ages = oldest_ages(await db.find(replace(UNFINISHED, limit=MAX_AGED)), utc_now())
        for state, age in ages.items():
            self._oldest.labels(state).set(age)
        workers = await workers_of(db)
        for name in WORKER_STATUSES:
            self._workers.labels(name).set(sum(each["status"] == name for each in workers))
        alive = [each for each in workers if each["status"] != "lost"]
        self._worker_calls.set(sum(each["calls"] for each in alive))

    def collect(self) -> list[Metric]:
        """Return the current values, without queries."""
        state = self._app.state
        running = active_runs.all_running(state.db)
        calls = sum(len(run.state.running) for run in running)
        figures = state.db.figures()
        open_streams = GaugeMetricFamily("apflow_streams_open", "Open streams of events", labels=["kind"])
        for kind in KINDS:
            open_streams.add_metric([kind], state.streams.open[kind])
        attempts = CounterMetricFamily(
            "apflow_webhook_attempts", "Requests to webhooks, by outcome", labels=["outcome"]
        )
        for outcome in ("sent", "retry", "refused", "gone"):
            attempts.add_metric([outcome], state.deliveries.counts[outcome])
        return [
            _gauge("apflow_runs_here", "Runs that this process drives", len(running)),
            _gauge("apflow_calls_running", "Executors that are being called here", calls),
            _gauge(
                "apflow_calls_limit",
                "Maximum of executors that are called here",
                state.settings.max_concurrency,
            ),
            _counter("apflow_store_commits", "Commits of tasks", figures.get("commits", 0)),
            _counter("apflow_store_changes", "Changes of tasks in these commits", figures.get("changes", 0)),
            _gauge("apflow_event_lag_seconds", "Age of the last event when it was sent", state.streams.lag),
            _gauge("apflow_webhooks_active", "Webhooks that are delivered to here", state.deliveries.active),
            _counter("apflow_webhooks_dead", "Webhooks that were given up", state.deliveries.counts["dead"]),
            open_streams,
            attempts,
        ]


def oldest_ages(roots: Sequence[Task], now: datetime) -> dict[str, float]:
    """Return the seconds since the request of the oldest waiting and the oldest running run; 0 for none.

    A run waits until a process drives it, and again after its process has released it.
    """
    ages = {"waiting": 0.0, "running": 0.0}
    for root in roots:
        if root.run_requested_at is not None and root.run_ended_at is None:
            state = "running" if root.run_owner is not None else "waiting"
            ages[state] = max(ages[state], (now - root.run_requested_at).total_seconds())
    return ages


def label_of(seen: Seen) -> str:
    """Return the executor of a task as a label: one that is known, so that there are not many."""
    executor = seen.task.executor if seen.task is not None else None
    if executor == GROUP:
        return "group"
    if executor is None or not executor_is_known(executor):
        return "unknown"
    # No executor's id begins with a colon, so the label of one that has such an id stays distinct.
    return f":{executor}" if executor in ("group", "unknown") else executor


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(name, what, value=value)
