"""Random requests: whatever comes in, what comes out is JSON-RPC, and a refusal has written nothing."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import Served, serving

from apflow.core.service.operations import OPERATIONS
from apflow.core.settings import Settings, reset_settings
from apflow.core.store.base import Change
from apflow.core.store.memory import MemoryStore
from apflow.server.http.request_log import request_id

# LiteLLM ignores these warnings of pydantic when the first `tasks.generate` imports it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier"),
    pytest.mark.filterwarnings("ignore:.*attribute on the instance is deprecated"),
]

CODES = {-32700, -32600, -32601, -32602, -32001, -32003, -32009, -32010}
TEXTS = [
    "",
    "r",
    "c",
    "x",
    "\x00",
    "é\u2028",
    "'; DROP TABLE tasks; --",
    "a" * 300,
    "../..",
    "null",
    "%s",
    "🎈",
]
NUMBERS = [0, 1, -1, 2, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308]


class CountingStore(MemoryStore):
    """Counts what requests write; what the worker writes beside them is another matter."""

    written = 0

    async def write(self, change: Change) -> Any:
        if request_id.get() and (change.add or change.moves or change.remove):
            self.written += 1
        return await super().write(change)

    async def put_record(self, *given: Any, **more: Any) -> Any:
        self.written += bool(request_id.get())
        return await super().put_record(*given, **more)


class Chance:
    """Makes requests: some right, most wrong, by one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 3) -> Any:
        kind = self.random.randrange(7 if depth else 5)
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.random.randrange(4))]
        if kind == 6:
            return {self.random.choice(TEXTS): self.value(depth - 1) for _ in range(self.random.randrange(4))}
        return [None, self.random.random() < 0.5, self.pick(TEXTS), self.pick(NUMBERS), self.pick(TEXTS)][
            kind
        ]

    def pick(self, among: list[Any]) -> Any:
        return self.random.choice(among)

    def task(self) -> dict[str, Any]:
        names = [
            "id",
            "name",
            "parent_id",
            "dependencies",
            "inputs",
            "params",
            "schemas",
            "policy",
            "priority",
            "x",
        ]
        task = {name: self.value() for name in names if self.random.random() < 0.3}
        return task | ({"name": "group"} if self.random.random() < 0.7 else {})

    def params(self, method: str) -> Any:
        if self.random.random() < 0.1 or method not in OPERATIONS:
            return self.value()
        params: dict[str, Any] = {}
        for name in OPERATIONS[method].parameters.model_fields:
            roll = self.random.random()
            if name == "wait":
                continue
            if name in ("task_id", "parent_id") and roll < 0.8:
                params[name] = self.pick(["r", "c", "x"])
            elif name in ("task_ids", "custom_task_ids") and roll < 0.7:
                params[name] = [self.pick(["r", "c", "x"]) for _ in range(self.random.randrange(3))]
            elif name == "tasks" and roll < 0.8:
                params[name] = [self.task() for _ in range(self.random.randrange(4))]
            elif roll < 0.3:
                params[name] = self.value()
        return params

    def call(self) -> Any:
        if self.random.random() < 0.05:
            return self.value()
        method = self.pick([*OPERATIONS, "tasks.fly", "", "__class__"])
        call: dict[str, Any] = {
            "jsonrpc": "2.0",
            "method": method,
            "params": self.params(method),
            "id": self.pick(NUMBERS[:8] + TEXTS[:4]),
        }
        for name in list(call):
            if self.random.random() < 0.03:
                call[name] = self.value()
            elif self.random.random() < 0.02:
                del call[name]
        return call

    def body(self) -> bytes:
        made = (
            [self.call() for _ in range(self.random.randrange(5))]
            if self.random.random() < 0.1
            else self.call()
        )
        body = json.dumps(made).encode()
        if self.random.random() < 0.05:
            cut = self.random.randrange(len(body) + 1)
            body = body[:cut] + self.random.randbytes(3) + body[cut + 1 :]
        return body


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APFLOW_MAX_REQUESTED", "1000000")
        patch.setenv("APFLOW_NET_POLICY", "public")
        patch.setenv("APFLOW_LLM_PROVIDER", "none")  # so that tasks.generate calls no model on the Internet
        reset_settings()
        with serving(Settings(rate_limit=10_000_000), CountingStore()) as found:
            yield found
    reset_settings()


def test_some_random_requests_break_nothing(served: Served, caplog: pytest.LogCaptureFixture):
    ask(served, 500, 1, caplog)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_many_random_requests_break_nothing(served: Served, caplog: pytest.LogCaptureFixture, seed: int):
    ask(served, 1000, seed, caplog)


def ask(served: Served, count: int, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    chance = Chance(seed)
    db = served.db
    assert isinstance(db, CountingStore)
    with httpx.Client(
        base_url=served.url, timeout=60, headers={"Content-Type": "application/json"}
    ) as client:
        for _ in range(count):
            if chance.random.random() < 0.1:
                tree = [{"id": "r", "name": "g"}, {"id": "c", "name": "g", "parent_id": "r"}]
                client.post("/call/tasks.create", json={"tasks": tree})
            body = chance.body()
            before = db.written
            with client.stream("POST", chance.pick(["/tasks", "/system"]), content=body) as answer:
                if answer.headers.get("content-type", "").startswith("text/event-stream"):
                    continue  # it may not end, and has separate tests
                answer.read()
            check(body, answer, is_written=db.written != before)
    assert caplog.text == ""


def check(body: bytes, answer: httpx.Response, *, is_written: bool) -> None:
    assert answer.status_code in (200, 204, 400, 413, 429), (body, answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code == 204:
        return
    answers = answer.json() if isinstance(answer.json(), list) else [answer.json()]
    for each in answers:
        assert each["jsonrpc"] == "2.0"
        assert ("result" in each) != ("error" in each), body
        if "error" in each and not each["error"].get("message", "").startswith("No tree was generated"):
            assert each["error"]["code"] in CODES, (body, each)
    if all("error" in each for each in answers) and len(answers) == 1:
        assert not is_written, (body, answer.text)
