"""The Docker engine: which one it is, talking to it, and what its refusals mean."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import requests
from docker import APIClient
from docker.constants import MINIMUM_DOCKER_API_VERSION
from docker.context import ContextAPI
from docker.errors import APIError, DockerException, NotFound, StreamParseError
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env, parse_host
from urllib3.exceptions import HTTPError

from apflow.executor.docker.connection import Line, PortAdapter, UnixAdapter
from apflow.executor.docker.errors import (
    EngineAccessError,
    EngineLostError,
    EngineRefusedError,
    EngineUnavailableError,
)

HELLO_SECONDS: Final = 5  # until it is connected, and for the first answer: who does not give it hangs
ANSWER_SECONDS: Final = 60  # for what the engine does at once

_ACCESS = (PermissionError, ssl.SSLError, requests.exceptions.SSLError)
# Answers that do not come, or break off.
LOST = (requests.RequestException, HTTPError, DockerException, StreamParseError, OSError)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine listens."""

    url: str  # `unix:///path`, `http://host:port` or `https://host:port`
    options: dict[str, Any]  # for the library


def find_engine() -> Address:
    """Return the engine that the environment names now: DOCKER_HOST and its kind, or Docker's context.

    Raises:
        EngineUnavailableError: the address is not supported, or its certificates are missing.
    """
    try:
        options: dict[str, Any] = {**kwargs_from_env()}
        if "base_url" not in options:
            options = {**ContextAPI.kwargs_from_context(), **options}
        url = parse_host(options.get("base_url"), tls=bool(options.get("tls")))
    except (DockerException, ValueError) as error:  # whose text may hold a password
        where = "what DOCKER_HOST, DOCKER_CERT_PATH or Docker's context names"
        raise EngineUnavailableError(
            where, "that is not a valid address, or its certificates are missing"
        ) from error
    url = url.removeprefix("http+")
    if not url.startswith(("unix://", "http://", "https://")):
        # What is waited for there cannot be ended from outside.
        raise EngineUnavailableError(url, "only sockets and ports are used, not SSH or named pipes")
    return Address(url, options)


class Client:
    """A client for one call, which another thread can end by cutting its line. It asks what we ask."""

    def __init__(self, address: Address, line: Line) -> None:
        self.address = address
        # The library is typed in part only; what it gives is JSON.
        self._api: Any = _Library(address, line)

    def greet(self) -> None:
        """Ask for the engine's version, and use it.

        Raises:
            EngineUnavailableError: no response, or not one of a Docker engine.
        """
        try:
            self._api.greet()
        except (*LOST, KeyError, ValueError, TypeError) as error:
            raise _unavailable(self.address.url, error) from error

    def containers(self, label: str) -> list[dict[str, Any]]:
        """List containers with a label, whatever their state."""
        return cast("list[dict[str, Any]]", self._api.containers(all=True, filters={"label": label}))

    def create(self, config: dict[str, Any], name: str) -> tuple[str, list[str]]:
        """Create a container and return its id, and what the engine warns of."""
        made = self._api.create_container_from_config(config, name)
        return str(made["Id"]), [str(each) for each in made.get("Warnings") or ()]

    def inspect(self, container: str) -> dict[str, Any]:
        """Tell everything of a container."""
        return cast("dict[str, Any]", self._api.inspect_container(container))

    def exists(self, container: str) -> bool:
        """Return whether a container exists."""
        try:
            self.inspect(container)
        except NotFound:
            return False
        return True

    def attach(self, container: str, **streams: int) -> requests.Response:
        """Open a container's streams; `socket_of` what is returned. It is closed with the client."""
        return cast(requests.Response, self._api.open_streams(container, {"stream": 1, **streams}))

    def start(self, container: str) -> None:
        """Start a container."""
        self._api.start(container)

    def wait(self, container: str) -> int:
        """Wait for a container's end and return its exit code."""
        return int(self._api.wait(container, timeout=None)["StatusCode"])

    def remove(self, container: str) -> None:
        """Remove a container with its anonymous volumes; kill it, if it runs."""
        self._api.remove_container(container, force=True, v=True)

    def events(self, container: str, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind that the engine remembers of a container."""
        wanted = {"container": container, "event": kind}
        until = f"{time.time():.9f}"
        return list(self._api.events(since=1, until=until, filters=wanted, decode=True))

    def network(self, name: str) -> dict[str, Any]:
        """Tell everything of a network."""
        return cast("dict[str, Any]", self._api.inspect_network(name))

    def pull(self, repository: str, tag: str | None) -> Iterator[dict[str, Any]]:
        """Pull an image and yield how that goes."""
        return cast("Iterator[dict[str, Any]]", self._api.pull(repository, tag=tag, stream=True, decode=True))

    def close(self) -> None:
        """Close all connections."""
        self._api.close()


class _Library(APIClient):
    """The library's client, with connections that are noted."""

    def __init__(self, address: Address, line: Line) -> None:
        self._line = line
        self._streams: list[requests.Response] = []
        # A version is named: nothing is asked before the connections are noted.
        super().__init__(**address.options, version=MINIMUM_DOCKER_API_VERSION)
        library = self.adapters.get("http+docker://")
        if isinstance(library, UnixHTTPAdapter):
            self.mount("http+docker://", UnixAdapter(line, library.socket_path))
        else:
            for scheme in ("http://", "https://"):
                self.mount(scheme, PortAdapter(line))

    def greet(self) -> None:
        self.timeout = HELLO_SECONDS
        answer: Any = self.version(api_version=False)
        self._version, self.timeout = str(answer["ApiVersion"]), ANSWER_SECONDS

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        self._line.check()
        options["timeout"] = (HELLO_SECONDS, options.get("timeout"))
        options["verify"] = self.verify  # requests 2 would otherwise use REQUESTS_CA_BUNDLE
        response = super().send(request, **options)
        if options.get("stream"):
            self._streams.append(response)
        return response

    def open_streams(self, container: str, streams: dict[str, int]) -> requests.Response:
        cast("Any", self).attach_socket(container, streams)
        return self._streams[-1]

    def close(self) -> None:
        for each in self._streams:
            each.close()
        super().close()


def socket_of(stream: requests.Response) -> socket.socket:
    """Return the socket on which a stream comes or goes."""
    raw: Any = stream.raw
    return cast(socket.socket, raw.connection.sock)


@contextmanager
def connected(address: Address, line: Line) -> Generator[Client]:
    """Give a client that an engine has answered.

    Raises:
        EngineUnavailableError: none does.
    """
    try:
        client = Client(address, line)
    except (DockerException, OSError) as error:
        raise _unavailable(address.url, error) from error
    try:
        client.greet()
        yield client
    finally:
        client.close()


@contextmanager
def asking(address: Address, what: str) -> Generator[None]:
    """Translate refusals and timeouts of the engine into errors.

    Raises:
        EngineRefusedError: it refuses to do `what`.
        EngineLostError: it does not answer.
    """
    try:
        yield
    except APIError as error:
        raise EngineRefusedError(what, explained(error)) from error
    except LOST as error:
        raise EngineLostError(address.url, _cause(error)) from error


def explained(error: APIError) -> str:
    """Return what the engine says about a refusal."""
    said = error.explanation or f"HTTP status {error.status_code}"
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split())


def _unavailable(url: str, error: BaseException) -> EngineUnavailableError:
    is_access = any(isinstance(each, _ACCESS) for each in _chain(error)) or (
        isinstance(error, APIError) and error.status_code in (401, 403)
    )
    kind = EngineAccessError if is_access else EngineUnavailableError
    return kind(url, _cause(error))


def _cause(error: BaseException) -> str:
    if isinstance(error, APIError):
        return explained(error)
    root = list(_chain(error))[-1]
    if isinstance(root, TimeoutError):
        return "it does not answer in time"
    return getattr(root, "strerror", None) or str(root) or type(root).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it comes from: libraries wrap what the system says, several times."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
