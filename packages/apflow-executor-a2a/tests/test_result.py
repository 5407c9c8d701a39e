"""What is reported of an agent's task that has failed."""

from __future__ import annotations

from typing import Any

import pytest
from a2a.types.a2a_pb2 import Message, TaskState
from google.protobuf.json_format import ParseDict

from apflow.executor.a2a.answer import Answer
from apflow.executor.a2a.result import error_of


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"text": "no paper"}, {"data": {"error": "jam"}}], "no paper"),
        ([{"data": {"error": "jam", "tray": 2}}], "jam"),
        ([{"data": {"tray": 2}}], '{"tray":2}'),
        ([{"data": {"error": {"tray": 2}}}], '{"error":{"tray":2}}'),
        ([{"data": [1, "two"]}], '[1,"two"]'),
        ([], "failed."),
    ],
)
def test_the_error_names_the_reason(parts: list[dict[str, Any]], said: str):
    message = ParseDict({"messageId": "m", "role": "ROLE_AGENT", "parts": parts}, Message())
    answer = Answer("http://agent", 1000, "t", "c", TaskState.TASK_STATE_FAILED, message)
    assert str(error_of(answer)).endswith(said)
