"""What version 1.0 of A2A requires on the wire: of the agent for the compatibility kit, and of trees."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from a2a.types import AgentCard, StreamResponse
from a2a.utils.proto_utils import validate_proto_required_fields
from a2a_clients import TRANSPORTS
from a2a_conformance import kit_agent
from a2a_wire import VERSION, Answer, Grpc, Wire, is_error, wire
from google.protobuf.json_format import ParseDict
from receiver import Receiver, receiving
from serving import serving, wait_for
from trees import Steps, steps

from apflow.core.settings import Settings

TERMINAL = {"COMPLETED", "FAILED", "CANCELED", "REJECTED"}
ORDER = {"SUBMITTED": 0, "WORKING": 1, "INPUT_REQUIRED": 1, "AUTH_REQUIRED": 1} | dict.fromkeys(TERMINAL, 2)
OTHER_MEDIA = {"raw": "dGNr", "mediaType": "application/x-unsupported"}


@dataclass
class Agent:
    """An agent, and the messages with which it does what a check needs."""

    name: str
    url: str
    grpc: str

    def message(self, does: str = "complete-task", **more: Any) -> dict[str, Any]:
        """Return a message: for a task that completes, or that stays open (`input-required`)."""
        message: dict[str, Any] = {"messageId": f"tck-{does}-{uuid.uuid4().hex[:8]}", "role": "ROLE_USER"}
        task: dict[str, Any] = {"name": Steps.id, "inputs": {"waits": does == "input-required"}}
        message["parts"] = [{"text": "of a test"}] if self.name == "kit" else [{"data": {"tasks": [task]}}]
        return message | more

    def complete(self, wire: Wire, task_id: str) -> None:
        """End a task that stays open."""
        if self.name == "kit":
            assert wire.call("SendMessage", message=self.message(taskId=task_id)).state == "COMPLETED"
        else:
            Steps.go_on.set()


@pytest.fixture(scope="module")
def agents() -> Iterator[dict[str, Agent]]:
    with ExitStack() as stack:
        url, grpc = stack.enter_context(kit_agent())
        stack.enter_context(steps())
        settings = Settings(a2a_grpc_bind="127.0.0.1:0", a2a_legacy=False, credentials_key="a key of tests")
        served = stack.enter_context(serving(settings))
        yield {
            "kit": Agent("kit", url, grpc),
            "trees": Agent("trees", served.url, served.app.state.a2a_grpc_address),
        }


@pytest.fixture(params=["kit", "trees"])
def agent(agents: dict[str, Agent], request: pytest.FixtureRequest) -> Iterator[Agent]:
    Steps.go_on.clear()
    yield agents[request.param]
    Steps.go_on.set()


@pytest.fixture(params=TRANSPORTS)
def on(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wire(request.param, agent.url, agent.grpc) as found:
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def opened(agent: Agent, on: Wire, **more: Any) -> dict[str, Any]:
    """Return a task that stays open."""
    params: dict[str, Any] = {"message": agent.message("input-required")} | more
    params.setdefault("configuration", {})["returnImmediately"] = agent.name == "trees"
    answer = on.call("SendMessage", **params)
    assert answer.state not in TERMINAL
    while agent.name == "trees" and (progress(answer), answer.state) != ("in_progress", "WORKING"):
        answer = on.call("GetTask", id=answer.task["id"])
    return answer.task


def progress(answer: Answer) -> str:
    """Return the status of a tree that an answer reports."""
    return str(answer.task["metadata"]["apflow"]["status"])


def completed(agent: Agent, on: Wire, **more: Any) -> dict[str, Any]:
    """Return a task that has completed."""
    answer = on.call("SendMessage", message=agent.message(**more))
    assert answer.state == "COMPLETED"
    return answer.task


def state_in(event: Answer) -> str | None:
    """Return the state that an event of a stream reports."""
    for kind in ("task", "statusUpdate"):
        if kind in event.body:
            return str(event.body[kind]["status"]["state"]).removeprefix("TASK_STATE_")
    return None


# Errors


def test_a_task_that_does_not_exist(agent: Agent, on: Wire):
    for method in ("GetTask", "CancelTask"):
        assert is_error(on.call(method, id="none"), on, "TASK_NOT_FOUND")
    (only,) = on.stream("SubscribeToTask", id="none")
    assert is_error(only, on, "TASK_NOT_FOUND")
    assert is_error(on.call("SendMessage", message=agent.message(taskId="none")), on, "TASK_NOT_FOUND")
    (only,) = on.stream("SendStreamingMessage", message=agent.message(taskId="none"))
    assert is_error(only, on, "TASK_NOT_FOUND")
    config = {"taskId": "none", "id": "a"}
    for method, more in (("Create", {"url": "https://example.com"}), ("Get", {}), ("Delete", {})):
        answer = on.call(f"{method}TaskPushNotificationConfig", **config, **more)
        assert is_error(answer, on, "TASK_NOT_FOUND")
    assert is_error(on.call("ListTaskPushNotificationConfigs", taskId="none"), on, "TASK_NOT_FOUND")


def test_a_task_that_has_ended(agent: Agent, on: Wire):
    task = completed(agent, on)
    assert is_error(on.call("CancelTask", id=task["id"]), on, "TASK_NOT_CANCELABLE")
    (only,) = on.stream("SubscribeToTask", id=task["id"])
    assert is_error(only, on, "UNSUPPORTED_OPERATION")
    wrong = agent.message(taskId=task["id"], contextId="another")
    assert is_error(on.call("SendMessage", message=wrong), on, "INVALID_PARAMS")
    if agent.name == "kit":  # in the context of a tree that has ended, such a message runs another one
        again = on.call("SendMessage", message=agent.message(taskId=task["id"]))
        assert is_error(again, on, "UNSUPPORTED_OPERATION")


def test_a_media_type_that_the_card_does_not_name(agent: Agent, on: Wire):
    message = agent.message()
    for parts in ([OTHER_MEDIA], [*message["parts"], OTHER_MEDIA]):
        answer = on.call("SendMessage", message=message | {"parts": parts})
        assert is_error(answer, on, "CONTENT_TYPE_NOT_SUPPORTED")
    (only,) = on.stream("SendStreamingMessage", message=message | {"parts": [OTHER_MEDIA]})
    assert is_error(only, on, "CONTENT_TYPE_NOT_SUPPORTED")


@pytest.mark.parametrize("version", ["99.0", "2.0", "1.1", "nonsense"])
def test_a_version_that_is_not_served(on: Wire, version: str):
    answer = on.call("GetTask", {"A2A-Version": version}, id="none")
    assert is_error(answer, on, "VERSION_NOT_SUPPORTED")


@pytest.mark.parametrize("version", ["1.0", "1.0.7", "1"])
def test_the_patch_of_a_version_does_not_count(on: Wire, version: str):
    assert is_error(on.call("GetTask", {"A2A-Version": version}, id="none"), on, "TASK_NOT_FOUND")


def test_parameters_that_are_invalid(agent: Agent, on: Wire):
    for params in (
        {},
        {"message": {"messageId": "m", "role": "ROLE_USER"}},
        {"message": {"role": "ROLE_USER", "parts": [{"text": "a"}]}},
        {"message": agent.message(), "configuration": {"historyLength": -1}},
    ):
        assert is_error(on.call("SendMessage", **params), on, "INVALID_PARAMS"), params
    for params in ({"pageSize": 0}, {"pageSize": 101}, {"pageToken": "?"}, {"historyLength": -1}):
        assert is_error(on.call("ListTasks", **params), on, "INVALID_PARAMS"), params
    task = completed(agent, on)
    assert is_error(on.call("GetTask", id=task["id"], historyLength=-1), on, "INVALID_PARAMS")


def test_fields_and_extensions_that_are_unknown_are_ignored(agent: Agent, on: Wire):
    given = {"A2A-Extensions": "https://example.com/ext/v1,https://example.com/ext/v2"}
    assert on.call("SendMessage", given, message=agent.message()).state == "COMPLETED"
    if not isinstance(on, Grpc):
        message = agent.message(unknownField="a")
        assert on.call("SendMessage", message=message, unknownParameter=7).state == "COMPLETED"


# Tasks


def test_a_message_waits_for_the_end_unless_it_asks_not_to(agent: Agent, on: Wire):
    message = agent.message("delayed-complete")
    if agent.name == "trees":
        Steps.go_on.clear()
        message = agent.message("input-required")
    at_once = on.call("SendMessage", message=message, configuration={"returnImmediately": True})
    assert at_once.state not in TERMINAL
    Steps.go_on.set()
    answer = on.call("SendMessage", message=message | {"messageId": "tck-delayed-complete-2"})
    assert answer.state == "COMPLETED"


def test_contexts_are_kept_or_made(agent: Agent, on: Wire):
    first, second = completed(agent, on), completed(agent, on, contextId="given")
    assert first["contextId"]
    assert second["contextId"] == "given"
    assert first["id"] != second["id"]
    found = on.call("GetTask", id=first["id"]).task
    assert (found["id"], found["contextId"]) == (first["id"], first["contextId"])
    assert found["status"]["timestamp"].endswith("Z")


def test_an_open_task_is_cancelled(agent: Agent, on: Wire):
    task = opened(agent, on)
    answer = on.call("CancelTask", id=task["id"])
    assert (answer.task["id"], answer.state) == (task["id"], "CANCELED")
    assert is_error(on.call("CancelTask", id=task["id"]), on, "TASK_NOT_CANCELABLE")


def test_lists_have_pages_with_the_latest_task_first(agent: Agent, on: Wire):
    context = uuid.uuid4().hex
    made = [completed(agent, on, contextId=context)["id"] for _ in range(3)]
    first = on.call("ListTasks", contextId=context, pageSize=2).body
    assert [each["id"] for each in first["tasks"]] == made[:0:-1]
    assert (first["pageSize"], first["totalSize"]) == (2, 3)
    assert not any("artifacts" in each for each in first["tasks"])
    rest = on.call("ListTasks", contextId=context, pageSize=2, pageToken=first["nextPageToken"]).body
    assert [each["id"] for each in rest["tasks"]] == made[:1]
    if not isinstance(on, Grpc):  # where an empty string is an absent one
        assert rest["nextPageToken"] == ""
    times = [each["status"]["timestamp"] for each in [*first["tasks"], *rest["tasks"]]]
    assert times == sorted(times, reverse=True)
    failed = on.call("ListTasks", contextId=context, status="TASK_STATE_FAILED").body
    assert failed.get("tasks", []) == []
    later = on.call("ListTasks", contextId=context, statusTimestampAfter=times[1]).body
    assert [each["id"] for each in later["tasks"]] in (made[:0:-1], made[:1:-1])
    shown = on.call("ListTasks", contextId=context, includeArtifacts=True).body
    assert agent.name == "kit" or all(each["artifacts"] for each in shown["tasks"])


# Streams


def test_a_stream_begins_with_the_task_and_ends_with_its_last_state(agent: Agent, on: Wire):
    events = list(on.stream("SendStreamingMessage", message=agent.message("stream-ordering-001")))
    assert "task" in events[0].body
    states = [ORDER[state] for event in events if (state := state_in(event)) is not None]
    assert states == sorted(states)
    assert state_in(events[-1]) == "COMPLETED"
    assert any("artifactUpdate" in each.body for each in events)
    ids = {
        (body.get("taskId") or body["id"], body["contextId"])
        for each in events
        for body in each.body.values()
    }
    assert len(ids) == 1


def test_each_subscriber_gets_the_same_and_may_leave(agent: Agent, on: Wire):
    task = opened(agent, on)
    streams = [on.stream("SubscribeToTask", id=task["id"]) for _ in range(3)]
    firsts = [next(each) for each in streams]
    assert all(each.body["task"]["id"] == task["id"] for each in firsts)
    streams.pop().close()  # type: ignore[attr-defined]
    found: list[list[dict[str, Any]]] = [[], []]

    def read(at: int) -> None:
        found[at] = [each.body for each in streams[at]]

    threads = [threading.Thread(target=read, args=(at,)) for at in range(2)]
    for each in threads:
        each.start()
    agent.complete(on, task["id"])
    for each in threads:
        each.join(60)
    assert found[0] == found[1] != []
    assert found[0][-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"


# History


def test_the_history_has_at_most_as_many_messages_as_asked_for(agent: Agent, on: Wire):
    message = agent.message()
    kept = on.call("SendMessage", message=message).task
    assert kept["history"][0]["messageId"] == message["messageId"]
    assert kept["history"][0]["parts"] == message["parts"]
    assert kept["history"][0]["taskId"] == kept["id"]
    assert on.call("GetTask", id=kept["id"]).task["history"] == kept["history"]
    assert on.call("GetTask", id=kept["id"], historyLength=10).task["history"] == kept["history"]
    assert on.call("GetTask", id=kept["id"], historyLength=1).task["history"] == kept["history"][-1:]
    assert "history" not in on.call("GetTask", id=kept["id"], historyLength=0).task
    without = {"configuration": {"historyLength": 0}}
    assert "history" not in on.call("SendMessage", message=agent.message(), **without).task
    first = next(iter(on.stream("SendStreamingMessage", message=agent.message(), **without)))
    assert "history" not in first.body["task"]
    listed = on.call("ListTasks", contextId=kept["contextId"], historyLength=1).body["tasks"]
    assert [each["messageId"] for each in listed[0]["history"]] == [kept["history"][-1]["messageId"]]
    listed = on.call("ListTasks", contextId=kept["contextId"], historyLength=0).body["tasks"]
    assert not listed[0].get("history")


# Push notifications


def test_configurations_are_created_read_listed_and_deleted(agent: Agent, on: Wire, receiver: Receiver):
    task = completed(agent, on)
    place = {"taskId": task["id"], "id": "mine"}
    made = on.call("CreateTaskPushNotificationConfig", **place, url=receiver.url)
    assert (made.body["id"], made.body["taskId"], made.body["url"]) == ("mine", task["id"], receiver.url)
    assert on.call("GetTaskPushNotificationConfig", **place).body["url"] == receiver.url
    listed = on.call("ListTaskPushNotificationConfigs", taskId=task["id"]).body
    assert [each["id"] for each in listed["configs"]] == ["mine"]
    missing = on.call("GetTaskPushNotificationConfig", taskId=task["id"], id="other")
    assert is_error(missing, on, "TASK_NOT_FOUND")
    for _ in range(2):  # the second time, there is nothing to delete
        assert on.call("DeleteTaskPushNotificationConfig", **place).code is None
    assert is_error(on.call("GetTaskPushNotificationConfig", **place), on, "TASK_NOT_FOUND")
    assert on.call("ListTaskPushNotificationConfigs", taskId=task["id"]).body.get("configs", []) == []


def test_a_webhook_gets_what_a_stream_gets(agent: Agent, on: Wire, receiver: Receiver):
    config = {
        "id": "mine", "url": receiver.url.replace("127.0.0.1", "localhost"),
        "authentication": {"scheme": "Bearer", "credentials": "of-the-hook"},
    }  # fmt: skip
    task = opened(agent, on, configuration={"taskPushNotificationConfig": config})
    agent.complete(on, task["id"])
    wait_for(lambda: any("COMPLETED" in str(each.body) for each in receiver.requests))
    for each in receiver.requests:
        ParseDict(json.loads(each.body), StreamResponse())
        assert each.headers["authorization"] == "Bearer of-the-hook"
        assert each.headers["content-type"].startswith(("application/a2a+json", "application/json"))


# Cards


def test_the_extended_card_is_one_for_all_transports(agent: Agent, on: Wire):
    card = on.call("GetExtendedAgentCard").body
    assert {each["id"] for each in card["skills"]} > {"tasks", "system", "config"}


def test_the_card_has_what_is_required(agent: Agent):
    answer = httpx.get(f"{agent.url}/.well-known/agent-card.json", trust_env=False)
    card = ParseDict(answer.json(), AgentCard())
    validate_proto_required_fields(card)
    assert {each.protocol_binding for each in card.supported_interfaces} == set(TRANSPORTS)
    assert {each.protocol_version for each in card.supported_interfaces} == {"1.0"}
    assert "max-age" in answer.headers["cache-control"]
    assert answer.headers["etag"]
    assert answer.headers["last-modified"]


# What one transport alone requires


@pytest.fixture
def http(agent: Agent) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=agent.url, trust_env=False, timeout=60, headers=VERSION) as client:
        yield client


def rpc(http: httpx.Client, body: Any, path: str = "/", kind: str = "application/json") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    answer = http.post(path, content=content, headers={"Content-Type": kind})
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", -32700),
        (b"", -32700),
        (b"\xff\xfe", -32700),
        ({}, -32600),
        ([], -32600),
        ("text", -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "GetTask", "params": {"id": "a"}}, -32600),
        ({"jsonrpc": "2.0", "id": {"a": 1}, "method": "GetTask", "params": {"id": "a"}}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "params": {}}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": 7, "params": {}}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "NoSuchMethod", "params": {}}, -32601),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": "text"}, -32600),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": []}, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask"}, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": 7}}, -32602),
        ({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": {"role": "x"}}}, -32602),
    ],
)
def test_bad_calls_of_json_rpc_have_the_code_of_their_fault(http: httpx.Client, body: Any, code: int):
    error = rpc(http, body)["error"]
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert isinstance(error.get("data", []), list)


@pytest.mark.parametrize("path", ["/", "/a2a", "/a2a/"])
def test_a_foreign_media_type_is_refused_by_json_rpc(http: httpx.Client, path: str):
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "a"}}
    assert rpc(http, body, path, "text/plain")["error"]["code"] == -32005
    assert rpc(http, body, path, "application/json; charset=utf-8")["error"]["code"] == -32001


def test_a_foreign_media_type_is_refused_by_http_json(agent: Agent, http: httpx.Client):
    body = json.dumps({"message": agent.message()})
    for path in ("/v1/message:send", "/v1/message:stream"):
        answer = http.post(path, content=body, headers={"Content-Type": "text/plain"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, 400)
        assert error["details"][0]["reason"] == "CONTENT_TYPE_NOT_SUPPORTED"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"\xff", b'{"message": 7}', b'{"message": {"role": "x"}}']
)
def test_bad_bodies_of_http_json_have_a_clear_error(http: httpx.Client, body: bytes):
    for path in ("/v1/message:send", "/v1/message:stream"):
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT"), error


def test_paths_of_http_json_that_do_not_exist_have_an_error_in_json(http: httpx.Client):
    for method, path in (("GET", "/v1/nothing/at/all"), ("PUT", "/v1/tasks"), ("GET", "/v1/message:send")):
        answer = http.request(method, path)
        assert answer.status_code in (404, 405)
        assert answer.json()["error"]["code"] == answer.status_code, answer.text
