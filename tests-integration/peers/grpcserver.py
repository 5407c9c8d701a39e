"""A gRPC server with all four kinds of method, for tests: no generated code, the protos are compiled here.

`serve` runs it on the running loop; `python grpcserver.py` runs it in a separate process, which can be
killed, and prints its port.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_status import rpc_status

Pairs = list[tuple[str, str | bytes]]

PROTOS = {
    "demo/common.proto": """
        syntax = "proto3";
        package demo.common;
        enum Colour { COLOUR_UNSPECIFIED = 0; RED = 1; GREEN = 2; }
        message Item { string name = 1; int64 count = 2; Colour colour = 3; }
    """,
    "demo/demo.proto": """
        syntax = "proto3";
        package demo;
        import "demo/common.proto";
        import "google/protobuf/any.proto";
        import "google/protobuf/duration.proto";
        import "google/protobuf/empty.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";

        message Everything {
          int32 small_number = 1;
          int64 large_number = 2;
          uint64 larger_number = 3;
          double fraction = 4;
          bool is_true = 5;
          string text = 6;
          bytes data = 7;
          demo.common.Colour colour = 8;
          repeated demo.common.Item items = 9;
          map<string, demo.common.Item> by_name = 10;
          map<int32, string> by_number = 11;
          oneof choice { string word = 12; demo.common.Item item = 13; }
          google.protobuf.Timestamp moment = 14;
          google.protobuf.Duration span = 15;
          google.protobuf.Struct free = 16;
          google.protobuf.Any any = 17;
          google.protobuf.Int64Value maybe = 18;
          google.protobuf.FieldMask mask = 19;
          google.protobuf.ListValue list = 20;
          google.protobuf.Value value = 21;
          Everything inner = 22;
        }
        message Name { string name = 1; }
        message Greeting { string text = 1; }
        message Number { int64 number = 1; }
        message Size { int64 bytes = 1; }
        message Blob { bytes data = 1; }
        message Failure { int32 code = 1; string message = 2; bool rich = 3; bool unknown = 4; }

        service Demo {
          rpc Echo(Everything) returns (Everything);
          rpc Greet(Name) returns (Greeting);
          rpc Count(Number) returns (stream Number);
          rpc Sum(stream Number) returns (Number);
          rpc Chat(stream Name) returns (stream Greeting);
          rpc Refuse(stream Number) returns (stream Number);
          rpc First(stream Number) returns (stream Number);
          rpc Private(google.protobuf.Empty) returns (Greeting);
          rpc Metadata(google.protobuf.Empty) returns (google.protobuf.Empty);
          rpc Upper(google.protobuf.StringValue) returns (google.protobuf.StringValue);
          rpc Any(google.protobuf.Any) returns (google.protobuf.Any);
          rpc Fail(Failure) returns (google.protobuf.Empty);
          rpc FailLater(Failure) returns (stream Number);
          rpc Sleep(google.protobuf.Duration) returns (google.protobuf.Empty);
          rpc Large(Size) returns (Blob);
          rpc Endless(Size) returns (stream Blob);
          rpc Absent(google.protobuf.Empty) returns (google.protobuf.Empty);
        }
    """,
    # Nothing imports this: who meets a note inside an `Any` has to ask for its description.
    "demo/note.proto": """
        syntax = "proto3";
        package demo.note;
        message Note { string text = 1; }
    """,
    "health.proto": """
        syntax = "proto3";
        package grpc.health.v1;
        message HealthCheckRequest { string service = 1; }
        message HealthCheckResponse {
          enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
          ServingStatus status = 1;
        }
        service Health {
          rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
          rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
        }
    """,
}
REFLECTION_SERVICES = {
    "v1": "grpc.reflection.v1.ServerReflection",
    "v1alpha": reflection.SERVICE_NAME,
}


@cache
def descriptor_set() -> bytes:
    """Return the compiled protos, with all that they import, as a FileDescriptorSet."""
    import grpc_tools

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        for name, text in PROTOS.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        flags = [f"-I{folder}", f"-I{well_known}", "--include_imports", f"-o{folder}/set"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *flags, *PROTOS]
        subprocess.run(command, check=True, timeout=60)
        return Path(folder, "set").read_bytes()


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """Return a pool with the protos."""
    made = descriptor_pool.DescriptorPool()
    for each in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file:
        made.Add(each)
    return made


@cache
def message(name: str) -> Any:
    """Return the class of a message, by its full name."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))


def encoded_descriptor_set() -> str:
    """Return `descriptor_set` as the executor takes it."""
    return base64.b64encode(descriptor_set()).decode()


@dataclass
class Peer:
    """A running server, and what it has seen."""

    port: int = 0
    token: str = "let-me-in-please"  # what Private wants: authorization: Bearer TOKEN
    active: Counter[str] = field(default_factory=Counter[str])  # active calls, by method
    calls: Counter[str] = field(default_factory=Counter[str])
    cancelled: Counter[str] = field(default_factory=Counter[str])
    connections: set[str] = field(default_factory=set[str])  # who has called
    metadata: list[Pairs] = field(default_factory=list["Pairs"])  # of the calls of Metadata
    hold: asyncio.Event = field(default_factory=lambda: _set(asyncio.Event()))  # cleared: Sum waits for it
    reflected: Counter[str] = field(default_factory=Counter[str])  # services and types asked for, by version

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def inputs(self, method: str, request: Any, **more: Any) -> dict[str, Any]:
        """Return what a task gives to the executor to call a method."""
        call = {"server": self.server, "service": "demo.Demo", "method": method, "request": request}
        return call | more

    async def until_active(self, method: str, count: int, seconds: float = 30.0) -> None:
        """Wait until a method has `count` active calls."""
        async with asyncio.timeout(seconds):
            while self.active[method] != count:  # noqa: ASYNC110 - the calls are counted, not announced
                await asyncio.sleep(0.005)


def _set(event: asyncio.Event) -> asyncio.Event:
    event.set()
    return event


class _Demo:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def echo(self, request: Any, context: Any) -> Any:
        return request

    async def greet(self, request: Any, context: Any) -> Any:
        if not request.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "name is empty")
        await context.send_initial_metadata((("x-first", "1"), ("x-data-bin", b"\0\xff")))
        context.set_trailing_metadata((("x-last", "a"), ("x-last", "b")))
        return message("demo.Greeting")(text=f"Hello {request.name}")

    async def count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(request.number):
            yield message("demo.Number")(number=number)

    async def sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        total = sum([each.number async for each in requests])
        await self._peer.hold.wait()
        return message("demo.Number")(number=total)

    async def chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for each in requests:
            yield message("demo.Greeting")(text=f"Hello {each.name}")

    async def refuse(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        yield

    async def first(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for each in requests:
            yield each
            return

    async def private(self, request: Any, context: Any) -> Any:
        given = dict(context.invocation_metadata()).get("authorization")
        if given != f"Bearer {self._peer.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no entry with {given}")
        return message("demo.Greeting")(text="Welcome")

    async def metadata(self, request: Any, context: Any) -> Any:
        self._peer.metadata.append(list(context.invocation_metadata()))
        return message("google.protobuf.Empty")()

    async def upper(self, request: Any, context: Any) -> Any:
        return message("google.protobuf.StringValue")(value=request.value.upper())

    async def any(self, request: Any, context: Any) -> Any:
        return request

    async def fail(self, request: Any, context: Any) -> Any:
        code = next(each for each in grpc.StatusCode if each.value[0] == request.code)
        if not (request.rich or request.unknown):
            context.set_trailing_metadata((("x-last", "a"),))
            await context.abort(code, request.message)
        await context.abort_with_status(rpc_status.to_status(_rich_status(request)))

    async def fail_later(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield message("demo.Number")(number=number)
        await self.fail(request, context)

    async def sleep(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(request.seconds + request.nanos / 1e9)
        return message("google.protobuf.Empty")()

    async def large(self, request: Any, context: Any) -> Any:
        return message("demo.Blob")(data=bytes(request.bytes))

    async def endless(self, request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            yield message("demo.Blob")(data=bytes(request.bytes))
            await asyncio.sleep(0)


def _rich_status(request: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=request.code, message=request.message)
    violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="taken")
    info = error_details_pb2.ErrorInfo(reason="NAME_TAKEN", domain="demo", metadata={"limit": "3"})
    details = [error_details_pb2.BadRequest(field_violations=[violation]), info] if request.rich else []
    for each in details:
        status.details.add().Pack(each)
    if request.unknown:
        status.details.append(any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\x08\x01"))
    return status


class _Health:
    async def check(self, request: Any, context: Any) -> Any:
        if request.service not in ("", "demo.Demo"):
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return message("grpc.health.v1.HealthCheckResponse")(status=1)

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield message("grpc.health.v1.HealthCheckResponse")(status=1)
        await asyncio.Event().wait()


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _methods(peer: Peer, service: str, servicer: object) -> grpc.GenericRpcHandler:
    """Return what serves a service: each method by the servicer's function of that name."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in pool().FindServiceByName(service).methods:
        function = getattr(servicer, _snake(method.name), None)
        if function is None:
            continue
        kinds = ("stream" if each else "unary" for each in (method.client_streaming, method.server_streaming))
        make = getattr(grpc, "_".join(kinds) + "_rpc_method_handler")
        watch = _watched_stream if method.server_streaming else _watched
        handlers[method.name] = make(
            watch(peer, method.name, function),
            request_deserializer=message(method.input_type.full_name).FromString,
            response_serializer=message(method.output_type.full_name).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, handlers)


@contextmanager
def _counted(peer: Peer, name: str, context: Any) -> Generator[None]:
    peer.active[name] += 1
    peer.calls[name] += 1
    peer.connections.add(context.peer())
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        peer.cancelled[name] += 1
        raise
    finally:
        peer.active[name] -= 1


def _watched(peer: Peer, name: str, function: Callable[[Any, Any], Any]) -> Any:
    async def call(request: Any, context: Any) -> Any:
        with _counted(peer, name, context):
            return await function(request, context)

    return call


def _watched_stream(peer: Peer, name: str, function: Callable[[Any, Any], Any]) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        with _counted(peer, name, context):
            async for each in function(request, context):
                yield each

    return call


class _Reflection(reflection.aio.ReflectionServicer):
    """Reflection that answers with one file at a time: the client asks for what that imports."""

    def __init__(self, peer: Peer, version: str) -> None:
        names = ["demo.Demo", "grpc.health.v1.Health", REFLECTION_SERVICES[version]]
        super().__init__(names, pool=pool())
        self._peer, self._version = peer, version

    async def ServerReflectionInfo(self, request_iterator: Any, unused_context: Any) -> Any:  # noqa: N802 - gRPC's name
        async for answer in super().ServerReflectionInfo(request_iterator, unused_context):
            self._peer.reflected[self._version] += answer.original_request.HasField("file_containing_symbol")
            files = answer.file_descriptor_response.file_descriptor_proto
            if self._version == "v1" and files:
                del files[1:]
            yield answer


def _reflection_methods(peer: Peer, version: str) -> grpc.GenericRpcHandler:
    handler = grpc.stream_stream_rpc_method_handler(
        _Reflection(peer, version).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(
        REFLECTION_SERVICES[version], {"ServerReflectionInfo": handler}
    )


@asynccontextmanager
async def serve(
    *,
    reflect: tuple[str, ...] = ("v1alpha",),
    credentials: grpc.ServerCredentials | None = None,
    host: str = "127.0.0.1",
    compression: grpc.Compression | None = None,
    port: int = 0,
) -> AsyncGenerator[Peer]:
    """Run the server on the running loop.

    Args:
        reflect: the versions of server reflection that it offers: "v1", "v1alpha".
        credentials: for TLS; plain without.
    """
    peer = Peer()
    handlers = [_methods(peer, "demo.Demo", _Demo(peer)), _methods(peer, "grpc.health.v1.Health", _Health())]
    handlers += [_reflection_methods(peer, version) for version in reflect]
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    server = grpc.aio.server(handlers=handlers, options=options, compression=compression)
    address = f"{host}:{port}"
    peer.port = (
        server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    )
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)


@contextmanager
def serve_in_process(port: int = 0) -> Generator[tuple[subprocess.Popen[str], int]]:
    """Run the server in a separate process; yield that and its port. Killing it is allowed."""
    command = [sys.executable, __file__, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def _main(port: int) -> None:
    async with serve(port=port) as peer:
        print(peer.port, flush=True)
        # Ends with the process that started it, which closes its input.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
