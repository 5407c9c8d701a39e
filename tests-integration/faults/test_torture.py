"""`apflow torture` runs the campaign on a new database beside that of a user, and gives a verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apflow.testing.postgres import a_database, run_sql
from apflow.testing.postgresserver import Server
from apflow.testing.torture.place import own_place


def tortured(folder: Path, url: str, *options: str) -> tuple[dict[str, Any], str]:
    """Run the command, and return its verdict and what it said meanwhile."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "apflow.cli", "torture", "--json", *options],
        cwd=folder,
        env=kept | {"APFLOW_DATABASE_URL": url, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty directory, also for sockets: the paths of pytest may be too long for them."""
    with tempfile.TemporaryDirectory(prefix="apflow-") as made:
        yield Path(made)


def test_a_campaign_on_duckdb_gives_a_verdict_and_leaves_nothing(folder: Path):
    url = f"duckdb:///{folder / 'tasks.duckdb'}"
    verdict, notes = tortured(folder, url, "--minutes", "0.1", "--size", "20", "--seed", "7")
    assert verdict["is_good"], verdict
    assert verdict["kills"] + verdict["suspensions"] + verdict["stops"] > 0
    assert verdict["trees"] >= 5
    assert verdict["elements"] > 0
    assert verdict["approvals"] >= verdict["trees"]
    assert len(verdict["rules"]) == 19
    assert "seed 7" in notes
    assert list(folder.iterdir()) == []


LONGER = pytest.param("0.5", "50", "3", marks=pytest.mark.faults)


@pytest.mark.parametrize(("minutes", "size", "workers"), [("0.1", "20", "2"), LONGER])
def test_a_campaign_on_postgresql_gives_a_verdict_and_drops_its_schema(
    server: Server, folder: Path, minutes: str, size: str, workers: str
):
    with a_database(server.url()) as url:
        verdict, _ = tortured(folder, url, "--minutes", minutes, "--size", size, "--workers", workers)
        assert verdict["is_good"], verdict
        assert verdict["kills"] + verdict["suspensions"] + verdict["stops"] > 0
        assert verdict["elements"] > 0
        assert verdict["approvals"] >= verdict["trees"]
        assert run_sql(url, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'apflow_%'") == [(0,)]


def test_a_campaign_has_a_new_schema_and_drops_it(server: Server):
    with a_database(server.url()) as url:
        run_sql(url, "CREATE TABLE apflow_tasks (id INTEGER)", "INSERT INTO apflow_tasks VALUES (7)")
        schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'apflow_torture_%'"
        with own_place(url) as place:
            assert place.is_shared
            run_sql(place.url, "CREATE TABLE apflow_tasks (id INTEGER)")
            assert run_sql(place.url, "SELECT count(*) FROM apflow_tasks") == [(0,)]
            assert run_sql(url, schemas) == [(1,)]
        assert run_sql(url, schemas) == [(0,)]
        assert run_sql(url, "SELECT id FROM apflow_tasks") == [(7,)]
