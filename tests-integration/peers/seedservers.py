"""The services that the executors of the documents call: a Greeter over gRPC, and an MCP server.

As a program, it is the MCP server: `seedservers.py stdio`, or `seedservers.py http PORT`.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

FILE = "file:///path/to/file.txt"


def mcp_server() -> Any:
    """Return an MCP server with the tool `search_web`, and the file that the document reads."""
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("seeds")

    @server.tool()
    def search_web(query: str) -> str:
        """Search."""
        return f"found: {query}"

    @server.resource(FILE)
    def file() -> str:
        """Return the content of the file."""
        return "the content"

    return server


@contextmanager
def greeter() -> Generator[str]:
    """Run the service `Greeter` with server reflection; yield its address."""
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from grpc_reflection.v1alpha import reflection

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="seeds_greeter.proto", syntax="proto3")
    for message, field in (("HelloRequest", "name"), ("HelloReply", "message")):
        made = file.message_type.add(name=message)
        made.field.add(name=field, number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    service = file.service.add(name="Greeter")
    service.method.add(name="SayHello", input_type=".HelloRequest", output_type=".HelloReply")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, reply = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("HelloRequest", "HelloReply")
    )
    handler = grpc.unary_unary_rpc_method_handler(
        lambda asked, _: reply(message=f"Hello {asked.name}"), request.FromString, reply.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Greeter", {"SayHello": handler})])
    reflection.enable_server_reflection(["Greeter", reflection.SERVICE_NAME], server, pool)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        mcp_server().run("stdio")
    else:
        mcp_server().run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
