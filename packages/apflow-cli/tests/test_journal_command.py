"""`apflow db checkpoint` and `apflow db discard-journal`."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import asyncio, os, signal, sys
from apflow.storage.duckdb import DuckDBStore, application, writer
from apflow.testing.building import a_task

writer.COMMITS_BEFORE_JOURNAL, application.GATHER_SECONDS = 0, 3600.0

async def main():
    store = DuckDBStore(sys.argv[1])
    await store.add([a_task("t")])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def killed(apflow: Any) -> Path:
    """Run a process on the database that is killed, and return the journal that it leaves."""
    url = apflow.url
    done = subprocess.run([sys.executable, "-c", PROGRAM, url], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    return Path(f"{url.removeprefix('duckdb:///')}.journal")


def test_a_lost_journal_is_reported_and_can_be_discarded(apflow: Any):
    journal = killed(apflow)
    for each in (journal, Path(f"{journal}-wal")):
        each.unlink()
    done = apflow("tasks", "list")
    assert done.returncode == 5
    assert f"its journal {journal} is missing" in done.stderr
    assert "apflow db discard-journal" in done.stderr
    assert apflow.json("db", "discard-journal")["journal"] is None
    assert apflow.json("tasks", "list")["tasks"] == []


def test_a_discarded_journal_is_kept_under_another_name(apflow: Any):
    journal = killed(apflow)
    journal.write_text("damaged")
    kept = Path(f"{journal}.discarded-1")
    assert apflow("db", "discard-journal").stdout == (
        f"The database can be opened. Its journal is {kept} now.\n"
    )
    assert kept.exists()
    assert apflow.json("tasks", "list")["tasks"] == []


def test_a_journal_that_can_be_applied_is_not_discarded(apflow: Any):
    killed(apflow)
    assert apflow("db", "discard-journal").stdout == (
        "The database can be opened. No journal was discarded.\n"
    )
    assert [task["id"] for task in apflow.json("tasks", "list")["tasks"]] == ["t"]


def test_a_journal_of_a_killed_process_is_applied_by_the_next_command(apflow: Any):
    journal = killed(apflow)
    assert [task["id"] for task in apflow.json("tasks", "list")["tasks"]] == ["t"]
    assert not journal.exists()
    assert apflow.json("db", "info")["journal"] == {"records": 0, "size_bytes": 0}
    assert "of the journal. The file has" in apflow("db", "checkpoint").stdout
    assert apflow.json("db", "checkpoint")["records_applied"] == 0
