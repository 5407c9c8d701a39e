"""Requests and responses: limits, headers, error responses, request log and health."""
