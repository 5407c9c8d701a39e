"""The former path of `apflow.server`."""

from aipartnerupflow.api.app import (
    create_app,
    create_app_by_protocol,
    create_runnable_app,
    initialize_extensions,
    setup_app,
)

__all__ = [
    "create_app",
    "create_app_by_protocol",
    "create_runnable_app",
    "initialize_extensions",
    "setup_app",
]
