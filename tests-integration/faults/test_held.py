"""Code that holds the interpreter for longer than the lease: its tree ends all the same, by one result."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apflow.testing.postgres import a_database, run_sql
from apflow.testing.postgresserver import Server
from apflow.testing.torture.cluster import a_cluster
from apflow.testing.torture.history import Line

HELD = 5.0  # seconds: more than two leases


@dataclass
class Held:
    """How a tree ended, and what was written down meanwhile."""

    ends: dict[str, str]  # status and type of the error, by the last part of the name
    held_id: str
    after_id: str
    history: list[Line]

    def starts(self, task_id: str) -> int:
        return sum(line["kind"] == "started" and line["task_id"] == task_id for line in self.history)


def holding(key: str, *, workers: int, server: Server, folder: Path, **more: Any) -> Held:
    """Let workers run a tree of a task that holds the interpreter, and one that needs it."""
    first = {
        "id": f"{key}-held", "name": f"{key}-held", "parent_id": key, "schemas": {"method": "holding"},
        "inputs": {"seconds": HELD, "then": more.pop("then", 0.0)}, **more,
    }  # fmt: skip
    after = {
        "id": f"{key}-after", "name": f"{key}-after", "parent_id": key, "schemas": {"method": "noted"},
        "dependencies": [f"{key}-held"],
    }  # fmt: skip
    with (
        a_database(server.url()) as url,
        a_cluster(
            folder, url, modules=["clusterkit.holding"], environment={"APFLOW_MAX_INTERRUPTIONS": "3"}
        ) as cluster,
    ):
        for slot in range(workers):
            cluster.start_worker(slot)
            cluster.wait_until_ready(slot)
        cluster.submit(key, [{"id": key, "name": key}, first, after])
        assert cluster.wait_for_ends(), cluster.log()
        cluster.stop()
        rows = run_sql(url, "SELECT name, id, status, result::json->>'error_type' FROM apflow_tasks")
        ids = {row[0]: row[1] for row in rows}
        ends = {row[0].rpartition("-")[2]: " ".join(each for each in row[2:] if each) for row in rows}
        return Held(ends, ids[f"{key}-held"], ids[f"{key}-after"], cluster.history())


@pytest.mark.parametrize(
    ("workers", "then"),
    [
        pytest.param(1, 0.0, marks=pytest.mark.faults),
        (2, 0.0),
        pytest.param(2, 0.3, marks=pytest.mark.faults),
    ],
)
def test_one_attempt_wins(server: Server, tmp_path: Path, workers: int, then: float):
    held = holding("w", workers=workers, server=server, folder=tmp_path, then=then)
    assert held.ends == {"w": "completed", "held": "completed", "after": "completed"}
    assert held.starts(held.after_id) == 1
    assert 1 <= held.starts(held.held_id) <= workers
    assert f"the interpreter was held by task {held.held_id} ('w-held', holding)" in logs(tmp_path)


def test_once_means_once(server: Server, tmp_path: Path):
    held = holding("o", workers=2, server=server, folder=tmp_path, policy={"effect": "once"})
    assert held.ends == {
        "o": "failed ChildFailed", "held": "failed Interrupted", "after": "failed DependencyFailed",
    }  # fmt: skip
    assert held.starts(held.held_id) == 1


def logs(folder: Path) -> str:
    return "\n".join(each.read_text() for each in folder.glob("worker-*.log"))
