"""Logs, audit log, Prometheus metrics and OpenTelemetry traces."""
