"""`apflow approvals`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TREE = [
    {"id": "r", "name": "group"},
    *(
        {
            "id": each,
            "name": "test_asks",
            "parent_id": "r",
            "inputs": {"question": f"May {each}?", "form": form},
        }
        for each, form in (
            ("first", {"properties": {"count": {"type": "integer"}}, "required": ["count"]}),
            ("second", None),
        )
    ),
]
ASKS = """
from apflow.core import BaseTask, executor_register
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import ApprovalRequest


@executor_register()
class Asks(BaseTask):
    id = "test_asks"
    only_waits = True

    async def execute(self, inputs):
        approval = await ask_approval(ApprovalRequest(**inputs))
        return approval.decision.to_json()
"""


@contextmanager
def working(apflow: Any) -> Iterator[None]:
    """Run a tree whose tasks wait for approvals, in a worker that holds the database."""
    (apflow.folder / "asks.py").write_text(ASKS)
    apflow.environment["APFLOW_IMPORT"] = "asks"
    submitted = apflow("run", "flow", "--tasks", json.dumps(TREE), "--background")
    assert submitted.returncode == 0, submitted.stderr
    worker: subprocess.Popen[str] = apflow.start("worker")
    assert worker.stderr is not None
    try:
        assert worker.stderr.readline().startswith("Running what is submitted to ")
        while len(apflow.json("approvals", "list")["approvals"]) < len(TREE) - 1:
            assert worker.poll() is None
        yield
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_approvals_are_listed_shown_and_decided(apflow: Any):
    with working(apflow):
        titles, *rows = apflow("approvals", "list").stdout.splitlines()
        assert titles.lower().split()[:4] == ["task_id", "name", "status", "question"]
        found = apflow.json("approvals", "list")["approvals"]
        assert [row.split()[0] for row in rows] == [each["task_id"] for each in found]
        assert {each["task_id"] for each in found} == {"first", "second"}
        assert found == sorted(found, key=lambda each: each["asked_at"])  # both tasks ask at once
        shown = apflow("approvals", "show", "r/first").stdout
        assert "May first?" in shown
        assert "count" in shown
        for given, fault in (
            (("-a", "count=many"), "-a count"),
            ((), "count"),
        ):
            refused = apflow("approvals", "approve", "first", *given)
            assert refused.returncode == 2
            assert fault in refused.stderr
        done = apflow("approvals", "approve", "first", "-a", "count=3", "--reason", "Fine.")
        assert (done.returncode, done.stdout) == (0, "Approved: May first?\n")
        rejected = apflow.json("approvals", "reject", "second", "-m", "No.")["approval"]
        assert (rejected["status"], rejected["decision"]["reason"]) == ("rejected", "No.")
        again = apflow("approvals", "approve", "second")
        assert (again.returncode, "has rejected it: No." in again.stderr) == (4, True)
        found = apflow.json("approvals", "list", "--status", "decided")["approvals"]
        assert {each["task_id"]: each["decision"]["answers"] for each in found} == {
            "first": {"count": 3},
            "second": {},
        }
        unasked = apflow("approvals", "show", "r")
        assert (unasked.returncode, "has not asked for an approval" in unasked.stderr) == (3, True)
