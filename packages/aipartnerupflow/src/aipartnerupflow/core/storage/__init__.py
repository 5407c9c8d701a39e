"""The former path of the stores: a session is a store."""

from aipartnerupflow.core.storage.factory import (
    configure_database,
    create_pooled_session,
    create_session,
    create_storage,
    get_default_session,
    get_default_storage,
    is_postgresql_url,
    normalize_postgresql_url,
    reset_default_session,
    set_default_session,
)

__all__ = [
    "configure_database",
    "create_pooled_session",
    "create_session",
    "create_storage",
    "get_default_session",
    "get_default_storage",
    "is_postgresql_url",
    "normalize_postgresql_url",
    "reset_default_session",
    "set_default_session",
]
