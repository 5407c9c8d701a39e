"""Pages of events, as they are stored in the table."""

import pytest

from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.storage.sql.pages import FIELDS, MAX_EVENTS, pages, read_page
from apflow.testing.building import an_event


def numbered(count: int, result: Json = None) -> list[TaskEvent]:
    return [an_event(f"t{at}", "r", result=result, sequence=at) for at in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 10, MAX_EVENTS, MAX_EVENTS + 1, 3 * MAX_EVENTS])
def test_events_are_read_as_they_were_written(count: int):
    written = numbered(count, {"text": "\u00e9\u4f60"})
    found = list(pages("r", iter(written)))
    assert [event for page in found for event in read_page("r", page.body)] == written
    assert [page.first_sequence for page in found] == list(range(1, count + 1, MAX_EVENTS))
    assert found[-1].last_sequence == count


def test_a_page_of_many_events_takes_far_less_than_their_text():
    written = numbered(MAX_EVENTS, {"done": True})
    [page] = pages("r", written)
    text = dumps([[getattr(event, name) for name in FIELDS] for event in written])
    assert len(page.body) < len(text) / 5
    assert page.body.isascii()


def test_a_page_of_few_events_is_their_text():
    [page] = pages("r", numbered(3))
    assert page.body.startswith('[[1,"task_started","t1",')


def test_no_events_make_no_page():
    assert list(pages("r", [])) == []
