"""An executor that asks for an approval as its inputs say, for tests."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from apflow.core import BaseTask, executor_register, get_registry
from apflow.core.extensions.approval import ask_approval
from apflow.core.model.approval import ApprovalRequest

FORM = {
    "type": "object",
    "properties": {"window": {"type": "string", "enum": ["day", "night"]}},
    "required": ["window"],
}


class Asks(BaseTask):
    """Asks, and returns the decision; a rejection fails it."""

    id = "server_asks"
    name = "Asks"
    description = "Asks for an approval."
    only_waits = True

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        approval = await ask_approval(ApprovalRequest(**({"question": "May it?"} | inputs)))
        assert approval.decision is not None
        decided = approval.decision.to_json()
        return decided if decided["approved"] else decided | {"status": "failed", "error": "It was rejected."}


@contextmanager
def asks() -> Generator[None]:
    """Have the executor registered."""
    executor_register(Asks, override=True)
    try:
        yield
    finally:
        get_registry().unregister(Asks.id)


def asking(**inputs: Any) -> dict[str, Any]:
    """Return a task that asks."""
    return {"name": Asks.id, "inputs": inputs}
