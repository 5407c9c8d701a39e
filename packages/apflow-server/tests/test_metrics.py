"""Figures for Prometheus: what ran, what waits, who may look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from receiver import receiving
from serving import SECRET, Served, bearer, serving, wait_for
from trees import Steps, steps, tree

from apflow.core import create_session
from apflow.core.model.task import Task, utc_now
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
    wait_for(lambda: holds(figures(served)))
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


async def test_runs_are_counted_and_timed_by_the_name_of_the_tree(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(metrics, "MAX_TREE_NAMES", 2)
    service = TaskService(served.db, is_served=True)
    for name in ("nightly", "other", "nightly", "third", "fourth"):
        await service.execute(tasks={"name": name, "schemas": {"method": Steps.id}}, wait=True)
    counted = "apflow_trees_ended_by_name_total{{name={},status=completed}}"
    found = wait_until(served, lambda found: found.get(counted.format("other")) == 2)
    assert found[counted.format("nightly")] == 2
    assert found[counted.format(":other")] == 1  # a tree of that name is not among the others
    assert found["apflow_tree_seconds_count{name=nightly}"] == 2
    assert not any("third" in name or "fourth" in name for name in found)


async def test_the_age_of_the_oldest_run(served: Served):
    service = TaskService(served.db, is_served=True)
    waiting, running = (
        "apflow_oldest_run_age_seconds{state=waiting}",
        "apflow_oldest_run_age_seconds{state=running}",
    )
    assert wait_until(served, lambda found: found.get(waiting) == 0)[running] == 0
    await service.submit(tree("a", 3, waits=True))
    found = wait_until(served, lambda found: found[running] > 0)
    again = wait_until(served, lambda again: again[running] > found[running])
    assert again[waiting] == 0
    Steps.go_on.set()
    wait_until(served, lambda found: found[running] == 0)


def test_ages_are_those_of_unfinished_runs():
    now = utc_now()

    def root(seconds: float, **more: Any) -> Task:
        return Task(id="r", name="r", root_id="r", run_requested_at=now - timedelta(seconds=seconds), **more)

    roots = [root(5), root(20), root(3, run_owner="p"), root(90, run_owner="p", run_ended_at=now)]
    assert metrics.oldest_ages(roots, now) == {"waiting": 20, "running": 3}
    assert metrics.oldest_ages([], now) == {"waiting": 0, "running": 0}


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
