"""A2A 1.0 on the wire, without a client library: raw HTTP and gRPC, with the same calls on each transport.

An answer has the ProtoJSON of the response, or the error as each transport reports it. Responses are parsed
strictly: an unknown or a missing required field is an error of the server.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import grpc
import httpx
from a2a.types import a2a_pb2, a2a_pb2_grpc
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import MessageToDict, ParseDict
from google.rpc import error_details_pb2, status_pb2

TIMEOUT: Final = 60.0
VERSION: Final = {"A2A-Version": "1.0"}
ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"

# Of version 1.0.1 of the specification, section 5.4: JSON-RPC code, HTTP status, gRPC status.
ERRORS: Final = {
    "TASK_NOT_FOUND": (-32001, 404, "NOT_FOUND"),
    "TASK_NOT_CANCELABLE": (-32002, 400, "FAILED_PRECONDITION"),
    "UNSUPPORTED_OPERATION": (-32004, 400, "FAILED_PRECONDITION"),
    "CONTENT_TYPE_NOT_SUPPORTED": (-32005, 400, "INVALID_ARGUMENT"),
    "VERSION_NOT_SUPPORTED": (-32009, 400, "FAILED_PRECONDITION"),
    "INVALID_PARAMS": (-32602, 400, "INVALID_ARGUMENT"),
}
TRANSPORT_AT: Final = {"JSONRPC": 0, "HTTP+JSON": 1, "GRPC": 2}


@dataclass
class Answer:
    """What a call was answered with."""

    body: dict[str, Any] = field(default_factory=dict[str, Any])  # ProtoJSON; empty on an error
    code: int | str | None = None  # of the error, as the transport has it
    reason: str = ""  # of google.rpc.ErrorInfo
    domain: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def task(self) -> dict[str, Any]:
        """The task, of an answer to SendMessage or by itself."""
        assert self.code is None, self
        task: dict[str, Any] = self.body.get("task", self.body)
        return task

    @property
    def state(self) -> str:
        """The state of the task, without its prefix."""
        state: str = self.task["status"]["state"]
        return state.removeprefix("TASK_STATE_")


class Wire(Protocol):
    """Calls of one transport. A method is called by the name of its operation in the specification."""

    name: str

    def call(self, method: str, headers: Mapping[str, str] | None = None, /, **params: Any) -> Answer:
        """Call an operation that has one answer, with parameters in ProtoJSON."""
        ...

    def stream(self, method: str, /, **params: Any) -> Iterator[Answer]:
        """Call an operation that has a stream of answers. An error is the last one."""
        ...


def is_error(answer: Answer, wire: Wire, reason: str) -> bool:
    """Whether an answer is an error as the specification defines it for the transport."""
    code = ERRORS[reason][TRANSPORT_AT[wire.name]]
    assert (answer.code, answer.reason, answer.domain) == (code, reason, "a2a-protocol.org"), answer
    assert answer.message
    return True


RESPONSES: Final[dict[str, Any]] = {
    "SendMessage": a2a_pb2.SendMessageResponse,
    "SendStreamingMessage": a2a_pb2.StreamResponse,
    "SubscribeToTask": a2a_pb2.StreamResponse,
    "GetTask": a2a_pb2.Task,
    "CancelTask": a2a_pb2.Task,
    "ListTasks": a2a_pb2.ListTasksResponse,
    "CreateTaskPushNotificationConfig": a2a_pb2.TaskPushNotificationConfig,
    "GetTaskPushNotificationConfig": a2a_pb2.TaskPushNotificationConfig,
    "ListTaskPushNotificationConfigs": a2a_pb2.ListTaskPushNotificationConfigsResponse,
    "GetExtendedAgentCard": a2a_pb2.AgentCard,
}
REQUESTS: Final[dict[str, Any]] = {
    "SendMessage": a2a_pb2.SendMessageRequest,
    "SendStreamingMessage": a2a_pb2.SendMessageRequest,
    "CreateTaskPushNotificationConfig": a2a_pb2.TaskPushNotificationConfig,
}


def checked(method: str, body: Any) -> dict[str, Any]:
    """Return a response after checking it against the schema."""
    if method in RESPONSES:
        parsed = ParseDict(body, RESPONSES[method]())
        if method not in ("ListTasks", "ListTaskPushNotificationConfigs"):
            validate_proto_required_fields(parsed)
    return cast("dict[str, Any]", body or {})


class JsonRpc:
    name = "JSONRPC"

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._url, self._http = url, http

    def call(self, method: str, headers: Mapping[str, str] | None = None, /, **params: Any) -> Answer:
        answer = self._http.post(
            self._url, json=self._body(method, params), headers=VERSION | dict(headers or {})
        )
        assert answer.headers["content-type"].startswith("application/json")
        return self._answer(method, answer.json(), answer.headers)

    def stream(self, method: str, /, **params: Any) -> Iterator[Answer]:
        with self._http.stream("POST", self._url, json=self._body(method, params), headers=VERSION) as answer:
            if not answer.headers["content-type"].startswith("text/event-stream"):
                yield self._answer(method, json.loads(answer.read()), answer.headers)
                return
            for data in sse(answer):
                yield self._answer(method, data, answer.headers)

    def _body(self, method: str, params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": "a-1", "method": method, "params": params}

    def _answer(self, method: str, body: Any, headers: Mapping[str, str]) -> Answer:
        assert (body["jsonrpc"], body["id"]) == ("2.0", "a-1")
        assert ("result" in body) != ("error" in body)
        if "result" in body:
            return Answer(checked(method, body["result"]), headers=headers)
        error = body["error"]
        assert set(error) <= {"code", "message", "data"}
        return Answer(
            code=error["code"], message=error["message"], headers=headers, **info(error.get("data", []))
        )


class Rest:
    name = "HTTP+JSON"

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._url, self._http = url, http

    def call(self, method: str, headers: Mapping[str, str] | None = None, /, **params: Any) -> Answer:
        return self._answer(method, self._http.send(self._request(method, params, headers)))

    def stream(self, method: str, /, **params: Any) -> Iterator[Answer]:
        answer = self._http.send(self._request(method, params, {"Accept": "text/event-stream"}), stream=True)
        try:
            if not answer.headers["content-type"].startswith("text/event-stream"):
                answer.read()
                yield self._answer(method, answer)
                return
            for data in sse(answer):
                yield Answer(checked(method, data), headers=answer.headers)
        finally:
            answer.close()

    def _request(self, method: str, params: Any, headers: Mapping[str, str] | None) -> httpx.Request:
        task, config = params.get("id", ""), ""
        if "PushNotificationConfig" in method:
            task, config = params.get("taskId", ""), params.get("id", "")
        verb, path = {
            "SendMessage": ("POST", "/message:send"),
            "SendStreamingMessage": ("POST", "/message:stream"),
            "GetTask": ("GET", f"/tasks/{task}"),
            "ListTasks": ("GET", "/tasks"),
            "CancelTask": ("POST", f"/tasks/{task}:cancel"),
            "SubscribeToTask": ("POST", f"/tasks/{task}:subscribe"),
            "CreateTaskPushNotificationConfig": ("POST", f"/tasks/{task}/pushNotificationConfigs"),
            "GetTaskPushNotificationConfig": ("GET", f"/tasks/{task}/pushNotificationConfigs/{config}"),
            "ListTaskPushNotificationConfigs": ("GET", f"/tasks/{task}/pushNotificationConfigs"),
            "DeleteTaskPushNotificationConfig": ("DELETE", f"/tasks/{task}/pushNotificationConfigs/{config}"),
            "GetExtendedAgentCard": ("GET", "/extendedAgentCard"),
        }[method]
        kind = {"Content-Type": "application/json"} if verb == "POST" else {}
        query = {name: query_value(value) for name, value in params.items() if name not in ("id", "taskId")}
        has_body = method in REQUESTS
        return self._http.build_request(
            verb,
            f"{self._url}{path}",
            json=params if has_body else None,
            params=query if verb == "GET" else None,
            headers=VERSION | kind | dict(headers or {}),
        )

    def _answer(self, method: str, answer: httpx.Response) -> Answer:
        if answer.status_code < 300:
            assert answer.headers["content-type"].startswith("application/a2a+json")
            return Answer(checked(method, answer.json()), headers=answer.headers)
        assert answer.headers["content-type"].startswith("application/json")
        error = answer.json()["error"]
        assert error["code"] == answer.status_code
        assert error["status"] in grpc.StatusCode.__members__
        return Answer(
            code=answer.status_code,
            message=error["message"],
            headers=answer.headers,
            **info(error.get("details", [])),
        )


class Grpc:
    name = "GRPC"

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub: Any = cast("Any", a2a_pb2_grpc).A2AServiceStub(channel)

    def call(self, method: str, headers: Mapping[str, str] | None = None, /, **params: Any) -> Answer:
        metadata = {name.lower(): value for name, value in (VERSION | dict(headers or {})).items()}
        try:
            found = getattr(self._stub, method)(
                self._request(method, params), metadata=list(metadata.items()), timeout=TIMEOUT
            )
        except grpc.RpcError as error:
            return self._error(error)
        return Answer(checked(method, MessageToDict(found)))

    def stream(self, method: str, /, **params: Any) -> Iterator[Answer]:
        call = getattr(self._stub, method)(
            self._request(method, params), metadata=[("a2a-version", "1.0")], timeout=TIMEOUT
        )
        try:
            for each in call:
                yield Answer(checked(method, MessageToDict(each)))
        except grpc.RpcError as error:
            yield self._error(error)
        finally:
            call.cancel()

    def _request(self, method: str, params: Any) -> Any:
        kind = REQUESTS.get(method) or getattr(a2a_pb2, f"{method}Request")
        return ParseDict(params, kind())

    def _error(self, error: Any) -> Answer:
        found = Answer(code=error.code().name, message=error.details())
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                status: Any = status_pb2.Status.FromString(value)
                for detail in status.details:
                    if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                        unpacked: Any = error_details_pb2.ErrorInfo()
                        detail.Unpack(unpacked)
                        found.reason, found.domain = unpacked.reason, unpacked.domain
        return found


def info(details: list[Any]) -> dict[str, str]:
    """Return the reason and the domain of an error."""
    found = next((each for each in details if each["@type"] == ERROR_INFO), {})
    return {"reason": found.get("reason", ""), "domain": found.get("domain", "")}


def sse(answer: httpx.Response) -> Iterator[Any]:
    for line in answer.iter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def query_value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


@contextmanager
def wire(transport: str, url: str, grpc_address: str = "") -> Generator[Wire]:
    """Yield the calls of a transport of the agent at a URL, as its card names it."""
    if transport == "GRPC":
        with grpc.insecure_channel(grpc_address) as channel:
            yield Grpc(channel)
        return
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as http:
        yield JsonRpc(f"{url}/", http) if transport == "JSONRPC" else Rest(f"{url}/v1", http)
