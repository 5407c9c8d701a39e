from typing import Any

import pytest

from apflow.executor.docker.errors import DockerRefusedError
from apflow.executor.docker.plan import Launch, Limits, plan_launch, plan_limits, read_memory


def launch(**inputs: Any) -> Launch:
    return plan_launch({"image": "box", "command": ["true"], **inputs}, [], {}, {})


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (None, None),
        (7, 7),
        ("7", 7),
        ("7b", 7),
        ("2k", 2048),
        ("1.5M", 1572864),
        ("1g", 1 << 30),
        ("2KB", 2048),
    ],
)
def test_memory_is_read_with_its_unit(given: Any, size: int):
    assert read_memory(given) == size
    assert read_memory(None) is None


def test_processors_are_read_from_a_number_or_a_string():
    assert [plan_limits({"cpu": each}).cpu for each in (1.5, "1.5", "2", None)] == [1.5, 1.5, 2.0, None]
    for wrong in ("0.001", "0"):
        with pytest.raises(DockerRefusedError, match=f"resources.cpu is '{wrong}'"):
            plan_limits({"cpu": wrong})


def test_limits_are_set_unless_they_are_taken_away():
    assert plan_limits({}) == Limits(memory=1 << 30, cpu=None, pids=256)
    assert plan_limits({"memory": None, "pids": None}) == Limits(None, None, None)
    host = launch(resources={"memory": "64m", "cpu": 0.5}).config["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 256)


def test_a_limit_that_the_engine_drops_is_seen():
    limits = Limits(memory=64 << 20, cpu=1, pids=10)
    assert limits.not_held(limits.config()) == []
    assert limits.not_held({**limits.config(), "MemorySwap": -1}) == ["memory"]
    assert limits.not_held({"Memory": 0, "MemorySwap": 0, "PidsLimit": None}) == ["cpu", "memory", "pids"]
    assert Limits(None, None, None).not_held({"Memory": 0, "PidsLimit": None}) == []


def test_rights_are_taken_away_whatever_the_task_says():
    host = launch(network="bridge", user="root").config["HostConfig"]
    assert (host["Privileged"], host["CapDrop"]) == (False, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]


@pytest.mark.parametrize(
    ("inputs", "fault"),
    [
        ({"command": ["a\0b"]}, "null byte"),
        ({"command": "a\0b"}, "null byte"),
        ({"command": ["\udc80"]}, "lone surrogate"),
        ({"command": "echo 'open"}, "cannot be split"),
        ({"command": "  "}, "names no program"),
        ({"command": ["x"], "entrypoint": "'"}, "entrypoint"),
        ({"env": {"A": "b\0"}}, r"env\.A"),
        ({"env": {"A=B": "c"}}, "not a valid name"),
        ({"env": {"": "c"}}, "not a valid name"),
        ({"image": "a\0b"}, "image"),
        ({"stdin": "\ud800"}, "stdin"),
        ({"working_dir": "/\0"}, "working_dir"),
        ({"user": "\0"}, "user"),
        ({"command": ["x" * (128 << 10)]}, "command contains a string longer than 131071 bytes"),
        ({"env": {"A": "x" * (128 << 10)}}, "env contains"),
        ({"entrypoint": ["x" * (128 << 10)]}, "entrypoint contains"),
        ({"command": ["x" * 1000] * 2000}, "together"),
        ({"command": [""] * 300_000}, "together"),
        ({"resources": {"memory": "0g"}}, "memory"),
        ({"resources": {"memory": "much"}}, "memory"),
        ({"resources": {"memory": "99999999999999g"}}, "memory"),
        ({"network": "host"}, "network"),
        ({"network": "container:other"}, "network"),
        ({"network": "../x"}, "network"),
    ],
)
def test_what_cannot_be_said_or_must_not_be_is_refused(inputs: dict[str, Any], fault: str):
    with pytest.raises(DockerRefusedError, match=fault):
        launch(**inputs)
