"""Pulling images, from registries that may be connected to."""

from __future__ import annotations

import asyncio
from typing import Final

from docker.auth import resolve_repository_name
from docker.errors import APIError, DockerException
from docker.utils import parse_repository_tag

from apflow.core.errors import HostNotFoundError
from apflow.core.net.connect import net_policy, resolve
from apflow.executor.docker.engine import Client, asking, explained
from apflow.executor.docker.errors import ImagePullError

HUB: Final = "registry-1.docker.io"  # what the engine connects to for docker.io
HTTPS: Final = 443


def pull(client: Client, image: str) -> None:
    """Pull an image.

    Raises:
        AddressRefusedError: the network policy forbids to connect to its registry.
        ImagePullError: it cannot be pulled.
        EngineLostError: the engine does not answer.
    """
    repository, tag = parse_repository_tag(image)
    try:
        registry, _ = resolve_repository_name(repository)
    except (DockerException, IndexError) as error:
        raise ImagePullError(image, f"it is not a valid image name: {error}") from error
    check_registry(registry)
    with asking(client.address, f"pull {image!r}"):
        try:
            for each in client.pull(repository, tag):
                fault = each.get("error")
                if fault:
                    raise ImagePullError(image, " ".join(str(fault).split()))
        except APIError as error:
            raise ImagePullError(image, explained(error)) from error


def check_registry(registry: str) -> None:
    """Raise `AddressRefusedError` if the policy forbids to connect to a registry.

    It is the engine that connects, to what it resolves the name to; judged is what it is resolved to here.
    """
    host, _, port = registry.rpartition(":") if ":" in registry else (registry, "", "")
    policy = net_policy()
    try:
        asyncio.run(resolve(HUB if host == "docker.io" else host.strip("[]"), int(port or HTTPS), policy))
    except HostNotFoundError:
        # The engine may know it: its machine, or its proxy, may be another.
        if policy.is_public:
            raise
    except ValueError as error:
        raise ImagePullError(registry, "it is not a valid registry name") from error
