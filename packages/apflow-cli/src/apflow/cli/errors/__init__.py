"""Errors as people and scripts see them, and the exit codes."""
