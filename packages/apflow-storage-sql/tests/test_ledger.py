"""What the ledger remembers of rows."""

from __future__ import annotations

from typing import Any

import pytest

from apflow.core.errors import MoveLostError
from apflow.core.model.task import Task
from apflow.core.store.base import Change, Transition
from apflow.storage.sql.ledger import Ledger, Tree


def write(ledger: Ledger, *changes: Change, stored: dict[str, Any] | None = None) -> list[Any]:
    """Put a batch through the ledger, with the stored values of columns that it asks for."""
    needs = ledger.needs(changes)
    ledger.learn_rows(needs.rows, {})
    for root_id in needs.trees:
        ledger.learn_tree(root_id, Tree.empty())
    for name, value in (stored or {}).items():
        ledger.learn_values(name, dict.fromkeys(needs.values.get(name, []), value))
    outcomes, writes = ledger.decide(changes)
    ledger.keep(writes)
    for each in outcomes:
        if isinstance(each, BaseException):
            raise each
    return outcomes


def move(expects: dict[str, Any], sets: dict[str, Any]) -> Change:
    return Change(moves=[Transition("r", "r", expects, sets)], is_strict=True)


@pytest.fixture
def ledger() -> Ledger:
    """A ledger of a tree of one task."""
    ledger = Ledger(1)
    write(ledger, Change(add=[Task(id="r", name="r", root_id="r")]))
    return ledger


def others(ledger: Ledger) -> dict[str, Any] | None:
    row = ledger.row("r")
    assert row is not None
    return row.others


def test_a_column_that_a_move_expects_is_remembered_with_its_changes(ledger: Ledger):
    write(ledger, move({"label": None}, {"label": "first"}), stored={"label": None})
    write(ledger, move({"label": "first"}, {"label": "second"}))
    with pytest.raises(MoveLostError):
        write(ledger, move({"label": "first"}, {}))


def test_columns_that_no_move_expects_are_not_remembered(ledger: Ledger):
    write(ledger, move({"label": None}, {"label": "first"}), stored={"label": None})
    write(ledger, move({"attempts": 0}, {"result": {"rows": list(range(1000))}, "progress": 1.0}))
    assert others(ledger) == {"label": "first"}


def test_what_is_set_in_the_batch_that_adds_a_task_is_known_in_that_batch_alone():
    ledger = Ledger(1)
    added = Change(add=[Task(id="r", name="r", root_id="r")])
    result = {"rows": [1, 2]}
    assert write(
        ledger, added, move({"label": None}, {"result": result}), move({"result": result}, {"label": "x"})
    )
    assert others(ledger) is None
    write(ledger, move({"result": result}, {}), stored={"result": result})
