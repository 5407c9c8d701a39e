"""The secrets of this machine and who may use them, as `apflow config secrets list` shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict

from apflow.core import plugins
from apflow.core.model.task import Json
from apflow.core.payload.secrets import GROUP
from apflow.core.permissions.secret_policy import ANY, PREFIX, is_variable, secret_policy

COLUMNS = ("secret", "source", "users", "roles", "executors", "hosts")
# Without a grant. What this machine runs itself may use any secret.
ADMINISTRATORS = "admin"


def describe_secrets() -> list[dict[str, Json]]:
    """Return each secret of the environment and of the policy: where its value comes from, and its grants.

    Names that only a provider knows cannot be listed, unless the policy names them.

    Raises:
        SettingsError: the policy cannot be read.
    """
    policy = secret_policy()
    variables = {each.removeprefix(PREFIX) for each in os.environ if each.startswith(PREFIX)}
    known = {each for each in variables if each and is_variable(each)}
    named = {each for each in policy.grants if ANY not in each and not known.intersection(_variables(each))}
    return [
        {"name": each, "source": _source(each), "grants": [asdict(grant) for grant in policy.of(each)]}
        for each in sorted(known | named)
    ]


def _variables(name: str) -> tuple[str, str]:
    return name, "".join(each if each.isalnum() else "_" for each in name.upper())


def _source(name: str) -> str:
    if is_variable(name):
        return PREFIX + name
    providers = ", ".join(plugins.names(GROUP))
    return f"provider ({providers})" if providers else "not set"


def rows_of(secret: dict[str, Json]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a secret, one for each grant."""
    name, source = secret["name"], secret["source"]
    for grant in secret["grants"]:
        roles = ", ".join(dict.fromkeys((ADMINISTRATORS, *grant["roles"])))
        yield (
            name,
            source,
            ", ".join(grant["users"]) or "-",
            roles,
            ", ".join(grant["executors"]) or ANY,
            ", ".join(grant["hosts"]) or ANY,
        )
    if not secret["grants"]:
        yield name, source, "-", ADMINISTRATORS, ANY, ANY
