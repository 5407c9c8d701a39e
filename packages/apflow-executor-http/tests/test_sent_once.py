"""How often a request reaches a server that loses the connection: never more often than permitted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest

from apflow.core import TaskManager, TaskTreeNode, create_session
from apflow.executor.http import (
    RestConnectionError,
    RestExecutor,
    RestOutcomeUnknownError,
    RestStatusError,
    RestTimeoutError,
    close_connections,
)

METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH")
IDEMPOTENT = frozenset(METHODS) - {"POST", "PATCH"}
MOMENTS = ("between requests", "after the head", "after the request", "in the answer's head", "in the body")
EFFECTS = (None, "once", "idempotent")
RETRY = {"max_attempts": 3, "delay": 0.001}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue"


class Peer:
    """Counts requests by path, and drops the connection during the first request of a path `/MOMENT/...`."""

    def __init__(self) -> None:
        self.url = ""
        self.arrivals: Counter[str] = Counter()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, path = head.split()[:2]
                self.arrivals[path] += 1
                if not await self._answer(method, path, head, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, path: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer a request; return whether the connection stays."""
        moment = MOMENTS[int(path.split("/")[1])] if self.arrivals[path] == 1 and path[1].isdigit() else ""
        if moment == "after the head":
            writer.transport.abort()
            return False
        length = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-len")]
        await reader.readexactly(int(length[0]) if length else 0)
        match moment:
            case "after the request":
                return False
            case "in the answer's head":
                writer.write(ANSWER[:20])
            case "in the body":
                writer.write(ANSWER[:-2])
            case _ if path.startswith("/redirect"):
                writer.write(b"HTTP/1.1 303 See Other\r\nLocation: /busy\r\nContent-Length: 0\r\n\r\n")
                return True
            case _ if path.startswith(("/busy", "/gateway")):
                status = b"503 Busy" if path.startswith("/busy") else b"502 Bad Gateway"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
                return True
            case _ if path == "/mute":
                await reader.read(1)
            case _:
                writer.write(ANSWER.removesuffix(b"true") if method == "HEAD" else ANSWER)
                return not path.startswith("/closes")
        await writer.drain()
        return False


@asynccontextmanager
async def peer_of() -> AsyncGenerator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        await close_connections()
        server.close()


def expected(
    method: str, moment: str, *, effect: str | None, retries: bool, has_key: bool, kept: bool
) -> tuple[int, bool]:
    """Return how often a request may arrive, and whether its task completes."""
    if moment == "between requests" or (moment == "in the body" and method == "HEAD"):
        return 1, True
    is_harmless = method in IDEMPOTENT or has_key or effect == "idempotent"
    by_transport = kept and method in IDEMPOTENT and moment != "in the body"
    is_repeated = effect != "once" and (by_transport or (retries and is_harmless))
    return (2, True) if is_repeated else (1, False)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("effect", EFFECTS)
async def test_no_request_arrives_more_often_than_its_task_permits(moment: str, effect: str | None):
    policy: dict[str, Any] = {} if effect is None else {"policy": {"effect": effect}}
    async with peer_of() as peer, create_session("memory://") as store:
        manager = TaskManager(store)

        async def run(url: str, **inputs: Any) -> Any:
            task = await manager.task_repository.create_task(
                name="rest_executor", inputs={"url": url, "timeout": 20, **inputs}, **policy
            )
            return await manager.distribute_task_tree(TaskTreeNode(task))

        for number, (method, retries, has_key, kept) in enumerate(
            product(METHODS, (False, True), (False, True), (False, True))
        ):
            await close_connections()
            if kept:
                await run(f"{peer.url}/{'closes' if moment == 'between requests' else 'keeps'}/{number}")
            path = f"/{MOMENTS.index(moment)}/{number}" if moment != "between requests" else f"/well/{number}"
            inputs: dict[str, Any] = {"method": method}
            inputs |= {"json": {"amount": 1}} if method in ("POST", "PUT", "PATCH", "DELETE") else {}
            inputs |= {"headers": {"idempotency-key": "mine"}} if has_key else {}
            inputs |= {"retry": RETRY} if retries else {}
            tree = await run(peer.url + path, **inputs)
            seen = peer.arrivals[path], tree["status"] == "completed"
            case = method, retries, has_key, kept
            assert seen == expected(
                method, moment, effect=effect, retries=retries, has_key=has_key, kept=kept
            ), (case, tree["error"])
            if not seen[1] and (method not in IDEMPOTENT or effect == "once"):
                assert tree["result"]["error_type"] == "RestOutcomeUnknownError", case
                assert "The outcome is unknown" in tree["error"], case


async def call(peer: Peer, path: str, **inputs: Any) -> Any:
    executor = RestExecutor()
    executor.idempotency_key = "task:0"
    executor.policy_effect = inputs.pop("effect", None)
    return await executor.execute({"url": peer.url + path, "method": "POST", "timeout": 10, **inputs})


@pytest.mark.parametrize(
    ("effect", "path", "statuses", "arrivals"),
    [
        (None, "/busy", None, 3),
        (None, "/gateway", None, 1),  # a gateway does not know what the server has done
        (None, "/gateway", [502], 3),
        ("idempotent", "/gateway", None, 3),
        ("once", "/busy", None, 1),
        ("once", "/gateway", [502], 1),
    ],
)
async def test_an_answered_post_is_repeated_as_the_retry_of_its_user_says(
    effect: str | None, path: str, statuses: list[int] | None, arrivals: int
):
    retry = RETRY if statuses is None else {**RETRY, "on_status": statuses}
    async with peer_of() as peer:
        with pytest.raises(RestStatusError):
            await call(peer, path, retry=retry, effect=effect)
        assert peer.arrivals[path] == arrivals


async def test_a_post_is_not_repeated_because_the_page_that_it_redirects_to_is_busy():
    async with peer_of() as peer:
        with pytest.raises(RestStatusError):
            await call(peer, "/redirect", retry=RETRY)
        assert peer.arrivals == {"/redirect": 1, "/busy": 1}


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_timeout_says_whether_the_outcome_is_unknown(method: str):
    async with peer_of() as peer:
        with pytest.raises(RestTimeoutError) as caught:
            await call(peer, "/mute", method=method, timeout=0.3, retry=RETRY)
        assert ("The outcome is unknown" in str(caught.value)) == (method == "POST")
        assert peer.arrivals["/mute"] == 1


async def test_the_outcome_stays_unknown_when_the_server_does_not_come_back():
    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(lose, "127.0.0.1", 0)
    peer = Peer()
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(RestOutcomeUnknownError):
        await call(peer, "/", headers={"Idempotency-Key": "mine"}, retry=RETRY)


async def test_the_outcome_of_what_was_never_sent_is_known(unused_tcp_port: int):
    with pytest.raises(RestConnectionError) as caught:
        await RestExecutor().execute({"url": f"http://127.0.0.1:{unused_tcp_port}/", "method": "POST"})
    assert not caught.value.was_sent
    assert "unknown" not in str(caught.value)
