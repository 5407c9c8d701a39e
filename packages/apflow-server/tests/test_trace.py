"""Traces: a run is one trace, with a span for each task, its fate and its retries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from receiver import receiving
from serving import serving, wait_for
from trees import Steps, steps, tree

from apflow.core import MemoryStore, TaskExecutor
from apflow.core.engine.worker import Worker
from apflow.core.errors import SettingsError
from apflow.core.events.bus import bus_of
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.observability import observation, trace
from apflow.server.observability.observation import Observation, Seen
from apflow.server.observability.trace import Tracing, tracing_of


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with steps():
        yield


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


async def run(exporter: InMemorySpanExporter, *tasks: dict[str, Any], db: MemoryStore | None = None) -> None:
    """Run a tree under observation."""
    db = db or MemoryStore()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    observing = asyncio.create_task(Observation(db, [tracing.take]).run())
    await asyncio.sleep(0)
    await TaskService(db).create(list(tasks))
    await TaskExecutor().execute_task_by_id(str(tasks[0]["id"]), db_session=db)
    observing.cancel()
    await asyncio.wait([observing])
    tracing.close()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the spans, by the ids of their tasks; the tree's as ""."""
    return {
        str((span.attributes or {}).get("apflow.task.id", "")): span for span in exporter.get_finished_spans()
    }


def context_of(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


async def test_a_tree_is_one_trace_with_a_span_for_each_task_under_that_of_its_parent(
    exporter: InMemorySpanExporter,
):
    await run(exporter, *tree("r", 4))
    found = spans(exporter)
    assert set(found) == {"", "r", "r.0", "r.1", "r.2"}
    assert len({context_of(span).trace_id for span in found.values()}) == 1
    assert found[""].parent is None
    assert found[""].name == "tree group"
    for child, parent in {"r": "", "r.0": "r", "r.1": "r", "r.2": "r"}.items():
        above = found[child].parent
        assert above is not None
        assert above.span_id == context_of(found[parent]).span_id
    assert {span.status.status_code for span in found.values()} == {StatusCode.OK}
    for each in found.values():
        assert each.start_time is not None
        assert each.end_time is not None
        assert found[""].start_time <= each.start_time <= each.end_time <= found[""].end_time


async def test_a_failure_is_an_error_with_its_type_and_a_retry_is_an_event(exporter: InMemorySpanExporter):
    tasks = tree("r", 3, fails=2)
    tasks[1]["policy"] = {"retry": {"max_attempts": 2, "delay": 0}}
    await run(exporter, *tasks)
    found = spans(exporter)
    failed = found["r.0"]
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "as asked")
    assert dict(failed.attributes or {}) == {
        "apflow.task.id": "r.0",
        "apflow.tree.id": "r",
        "apflow.status": "failed",
        "apflow.task.name": "server_steps",
        "apflow.attempts": 2,
        "apflow.executor": "server_steps",
        "error.type": "ValueError",
    }
    [retry] = failed.events
    assert retry.name == "retry"
    assert (retry.attributes or {})["error.type"] == "ValueError"
    never_started = found["r.1"]
    assert (never_started.attributes or {})["error.type"] == "DependencyFailed"
    assert never_started.start_time == never_started.end_time
    assert found[""].status.status_code is StatusCode.ERROR


async def test_each_run_of_a_tree_is_a_trace_of_its_own(exporter: InMemorySpanExporter):
    db, again = MemoryStore(), InMemorySpanExporter()
    await run(exporter, *tree("r", 2), db=db)
    tracing = Tracing(SimpleSpanProcessor(again))
    observing = asyncio.create_task(Observation(db, [tracing.take]).run())
    await asyncio.sleep(0)
    await TaskExecutor().execute_task_by_id("r", force=True, db_session=db)
    observing.cancel()
    await asyncio.wait([observing])
    first, second = (
        {context_of(span).trace_id for span in each.get_finished_spans()} for each in (exporter, again)
    )
    assert (len(first), len(second), len(first | second)) == (1, 1, 2)


async def test_a_run_that_another_process_goes_on_with_is_the_same_trace(exporter: InMemorySpanExporter):
    """Two workers, one after the other, over one store: the first is drained in the middle."""
    db = MemoryStore()
    service = TaskService(db, is_served=True)
    tasks = tree("r", 3)
    tasks[2] |= {"dependencies": ["r.0"], "inputs": {"waits": True}}
    for ends_itself in (False, True):
        tracing = Tracing(SimpleSpanProcessor(exporter))
        observing = asyncio.create_task(Observation(db, [tracing.take]).run())
        worker = Worker(db, Settings(shutdown_timeout=0.05))
        working = asyncio.create_task(worker.run())
        await asyncio.sleep(0)
        if ends_itself:
            Steps.go_on.set()
            async for _ in service.watch("r", 0):
                pass
        else:
            await service.submit(tasks)
            while (await service.get("r.1"))["status"] != "in_progress":
                await asyncio.sleep(0.01)
        worker.drain()
        await working
        observing.cancel()
        await asyncio.wait([observing])
    found = spans(exporter)
    assert set(found) == {"", "r", "r.0", "r.1"}
    assert len({context_of(span).trace_id for span in found.values()}) == 1


async def test_what_nobody_records_costs_nothing():
    db = MemoryStore()
    await Observation(db, []).run()  # it ends at once
    assert not bus_of(db).has_subscribers("r")
    assert tracing_of(Settings()) is None


async def test_a_fault_in_recording_is_logged_and_holds_up_nobody(caplog: pytest.LogCaptureFixture):
    def broken(_: Seen) -> None:
        raise ValueError("broken")

    db, seen = MemoryStore(), list[Seen]()
    observing = asyncio.create_task(Observation(db, [broken, seen.append]).run())
    await asyncio.sleep(0)
    await TaskService(db).create(tree("r", 2))
    await TaskExecutor().execute_task_by_id("r", db_session=db)
    observing.cancel()
    await asyncio.wait([observing])
    assert seen[-1].event.type == "tree_completed"
    assert "could not be recorded" in caplog.text


async def test_what_waits_to_be_recorded_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(observation, "MAX_WAITING", 3)
    db, seen = MemoryStore(), list[Seen]()
    watching = Observation(db, [seen.append])
    await TaskService(db).create(tree("r", 50))
    with bus_of(db).observing(watching._note):
        await TaskExecutor().execute_task_by_id("r", db_session=db)
    assert len(watching._waiting) <= 3


def test_without_what_sends_traces_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(trace, "import_module", absent)
    with pytest.raises(SettingsError, match=r"apflow-server\[otlp\]"):
        tracing_of(Settings(otlp_endpoint="http://127.0.0.1:4318"))


async def test_a_collector_is_sent_the_spans(caplog: pytest.LogCaptureFixture):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    caplog.set_level(logging.ERROR)
    with receiving() as collector:
        endpoint = collector.url.removesuffix("/hook")
        with serving(Settings(otlp_endpoint=endpoint)) as served:
            await TaskService(served.db, is_served=True).submit(tree("r", 3))
            await asyncio.to_thread(
                wait_for, lambda: served.app.state.metrics._trees.labels("completed")._value.get() == 1, 10
            )
        assert {each.path for each in collector.requests} == {"/v1/traces"}
        assert b"tree group" in b"".join(each.body for each in collector.requests)
