"""Figures for Prometheus: what ran, what waits, who may look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from receiver import receiving
from serving import SECRET, Served, bearer, serving, wait_for
from trees import steps, tree

from apflow.core import create_session
from apflow.core.service.task_service import TaskService
from apflow.core.settings import Settings
from apflow.server.observability import metrics

Figures = dict[str, float]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(metrics, "FRESH", 0.0)
    with steps():
        yield


def figures(served: Served) -> Figures:
    """Return every figure, by its name with its labels."""
    text = httpx.get(f"{served.url}/metrics", trust_env=False).raise_for_status().text
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def wait_until(served: Served, holds: Callable[[Figures], bool]) -> Figures:
    wait_for(lambda: holds(figures(served)), 10)
    return figures(served)


async def test_tasks_are_counted_by_state_and_executor_and_their_time_is_measured(served: Served):
    service = TaskService(served.db, is_served=True)
    await service.submit(tree("a", 5))
    await service.submit(tree("b", 3, fails=5))
    found = wait_until(served, lambda found: found.get("apflow_trees_ended_total{status=failed}") == 1)
    assert found["apflow_trees_ended_total{status=completed}"] == 1
    assert found["apflow_tasks_ended_total{executor=server_steps,status=completed}"] == 4
    assert found["apflow_tasks_ended_total{executor=server_steps,status=failed}"] == 2
    assert found["apflow_tasks_ended_total{executor=group,status=completed}"] == 1
    assert found["apflow_task_seconds_count{executor=server_steps}"] == 5  # one never started
    assert found["apflow_tasks{status=completed}"] == 5
    assert found["apflow_tasks{status=failed}"] == 3
    assert found["apflow_runs_requested"] == 0


async def test_what_runs_and_waits_and_is_repeated_is_seen(served: Served):
    service = TaskService(served.db, is_served=True)
    tasks = tree("a", 2, waits=True, fails=1)
    tasks[1]["policy"] = {"retry": {"max_attempts": 2, "delay": 0}}
    await service.submit(tasks)
    found = wait_until(served, lambda found: found["apflow_calls_running"] == 1)
    assert (found["apflow_runs_here"], found["apflow_runs_requested"]) == (1, 1)
    with steps() as running:
        running.go_on.set()
        wait_until(served, lambda found: found.get("apflow_task_retries_total{executor=server_steps}") == 1)


async def test_commits_and_webhooks_are_counted(tmp_path: Path):
    pytest.importorskip("apflow.storage.duckdb")
    async with create_session(f"duckdb:///{tmp_path}/t.duckdb") as db:
        with serving(db=db) as served, receiving() as receiver:
            service = TaskService(served.db, is_served=True)
            await service.execute(tasks=tree("a", 4), webhook_config={"url": receiver.url})
            found = wait_until(
                served, lambda found: found["apflow_webhook_attempts_total{outcome=sent}"] >= 10
            )
            assert 0 < found["apflow_store_commits_total"] <= found["apflow_store_changes_total"]
            assert found["apflow_webhooks_dead_total"] == 0
            assert found["process_open_fds"] > 0


async def test_an_unknown_executor_is_no_label_of_its_own(served: Served):
    service = TaskService(served.db, is_served=True)
    for at in range(5):
        await service.submit({"name": f"n{at}", "schemas": {"method": f"unknown{at}"}})
    roots = [root["id"] for root in await service.list()]
    assert len(await service.resume(roots)) >= 0
    found = wait_until(served, lambda found: found["apflow_tasks{status=failed}"] == 5)
    assert not any("unknown3" in name for name in found)


def test_who_may_look():
    with serving(Settings(jwt_secret=SECRET)) as served, httpx.Client(base_url=served.url) as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/metrics", headers=bearer("ann")).status_code == 403
        answer = http.get("/metrics", headers=bearer("ann", role="admin"))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = http.get("/metrics", headers=bearer("ann", role="admin") | accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
