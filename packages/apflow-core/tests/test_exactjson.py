"""Numbers in JSON text of other systems: kept exactly, or refused with their path."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import InvalidInputError
from apflow.core.extensions.executor import BaseTask
from apflow.core.extensions.registry import executor_register, get_registry
from apflow.core.model.status import TaskStatus
from apflow.core.payload.exact_json import loads_exactly
from apflow.core.planning.outcome import NOT_SERIALIZABLE, read_result
from apflow.core.store.memory import MemoryStore
from apflow.core.task_executor import TaskExecutor

KEPT = ("0", "-0", "9007199254740993", "9223372036854775808", "18446744073709551615", "-9223372036854775808")
REFUSED = (
    "18446744073709551616",
    "18446744073709551617",
    "-9223372036854775809",
    "-9999999999999999999",
    "12345678901234567890123",
    "1" + "0" * 400,
    "-" + "9" * 5000,
    "1e400",
    "-1E+400",
    "1" + "0" * 400 + ".0",
)
ROUNDED = ("0.1", "1e308", "1e-400", "9007199254740993.0", "0." + "1" * 40, "1" * 25 + ".5", "1" * 25 + "e2")
PLACES = ("%s", "[%s]", "[1,%s ]", '{"a":{"b":[0,{"c":%s}]}}', '{ "a" : %s }', '["18446744073709551617",%s]')
integers = st.integers(-(2**70), 2**70) | st.sampled_from([int(each) for each in (*KEPT, *REFUSED[:5])])
values = st.recursive(
    integers | st.text(alphabet='09ae-"\\,: ', max_size=30) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text("0e-,", max_size=25), inner, max_size=4)
    ),
)


@given(values, st.sampled_from([None, 1]))
def test_an_integer_is_never_changed(value: Any, indent: int | None):
    text = json.dumps(value, indent=indent)
    for given_text in (text, text.encode(), bytearray(text.encode())):
        read = loads_exactly(given_text)
        assert read == value
        assert json.dumps(read) == json.dumps(value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", KEPT)
def test_an_integer_of_64_bits_is_kept(number: str, place: str):
    result = read_result({"json": loads_exactly(place % number)}, max_bytes=10**6)
    assert (result.status, result.result) == (TaskStatus.COMPLETED, {"json": json.loads(place % number)})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", REFUSED)
def test_a_number_that_cannot_be_kept_is_refused_with_its_path(number: str, place: str):
    result = read_result({"json": loads_exactly(place % number)}, max_bytes=10**6)
    path = {"[%s]": "[0]", "[1,%s ]": "[1]", PLACES[3]: ".a.b[1].c", PLACES[4]: ".a", PLACES[5]: "[1]"}
    assert (result.status, result.error_type) == (TaskStatus.FAILED, NOT_SERIALIZABLE)
    assert f"result.json{path.get(place, '')} is " in (result.error or "")
    assert "give it as text. A service can send such a number as a string." in (result.error or "")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", ROUNDED)
def test_a_decimal_becomes_the_nearest_float(number: str, place: str):
    read = loads_exactly(place % number)
    assert json.dumps(read) == json.dumps(json.loads(place % number))
    assert math.isfinite(float(number))


@pytest.mark.parametrize("number", REFUSED[:5])
def test_one_integer_is_found_anywhere_in_a_large_text(number: str):
    chance = random.Random(1)
    for size in (0, 1, 5, 6, 7, 100, 4096):
        for shift in range(13):
            filler: list[Any] = [" " * shift, *(chance.random() for _ in range(size))]
            text = json.dumps([*filler, "NUMBER", *filler]).replace('"NUMBER"', number)
            assert loads_exactly(text.encode())[len(filler)] == int(number)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[1", "18446744073709551617x", "01", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str):
    with pytest.raises(InvalidInputError, match=r"This is not JSON"):
        loads_exactly(text)


class Numbers(BaseTask):
    """Returns numbers as text."""

    id = "numbers_for_exactjson"
    name = "Numbers"
    description = "Returns numbers as text"

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"text": "18446744073709551617", "large": "1e400", "parts": [2**63] * 3, "same": inputs}


@pytest.mark.parametrize(
    "path",
    [
        "to_number(text)",
        "to_number(large)",
        "sum(parts)",
        "`18446744073709551617`",
        "`[[-9999999999999999999]]`",
    ],
)
async def test_a_number_of_a_jmespath_that_cannot_be_kept_fails_the_task_with_its_path(path: str):
    executor_register(override=True)(Numbers)
    method = {"method": Numbers.id}
    reference = {"$from": "first", "path": path}
    tasks: list[dict[str, Any]] = [
        {"id": "root", "name": "a", "schemas": method, "inputs": {"items": [1, {"id": reference}]}},
        {"id": "first", "name": "b", "schemas": method, "parent_id": "root"},
    ]
    tasks[0]["dependencies"] = ["first"]
    try:
        async with MemoryStore() as store:
            done = await TaskExecutor().execute_tasks(tasks, db_session=store)
    finally:
        get_registry().unregister(Numbers.id)
    assert (done["status"], done["result"]["error_type"]) == ("failed", "ValidationError")
    assert "inputs.items[1].id" in done["error"]
    assert "give it as text" in done["error"]
