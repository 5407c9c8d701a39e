"""The operations over HTTP: JSON-RPC and plain POST, and their OpenAPI description."""
