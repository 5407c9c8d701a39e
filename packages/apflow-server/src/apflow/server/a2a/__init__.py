"""The A2A protocol: trees as tasks of an agent, over JSON-RPC, HTTP+JSON and gRPC."""
