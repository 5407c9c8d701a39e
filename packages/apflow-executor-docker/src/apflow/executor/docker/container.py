"""One container, from its creation to its removal: in a thread, which another one can stop."""

from __future__ import annotations

import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from threading import Thread
from typing import Final, NamedTuple

from docker.errors import APIError, ImageNotFound
from requests import Response

from apflow.core.capture.task_log import output_log
from apflow.core.process.captured_output import Output
from apflow.executor.docker.connection import Line
from apflow.executor.docker.engine import LOST, Address, Client, asking, connected, explained, socket_of
from apflow.executor.docker.errors import (
    ContainerStartError,
    ImageNotFoundError,
    LimitNotHeldError,
)
from apflow.executor.docker.image import pull
from apflow.executor.docker.plan import NO_NETWORK, Launch, check_network
from apflow.executor.docker.sweep import active, remove, sweep_again, sweep_once

STDOUT: Final = 1  # the number of a stream; any other is of errors
HEADER: Final = 8  # bytes before each piece of output: the stream, and how many follow
READ_BYTES: Final = 1 << 16
KILLED: Final = 137  # the exit code of what was killed
OOM_SECONDS: Final = 0.5  # within which the engine learns of an out-of-memory kill
CREATION_SECONDS: Final = 2.0  # for which to look for a container after the answer to its creation is lost


class Ending(NamedTuple):
    """How a container has ended."""

    exit_code: int
    is_out_of_memory: bool


class Container:
    """A container that runs once. Its output grows while it runs."""

    def __init__(self, run_id: str, launch: Launch, address: Address) -> None:
        self.run_id, self.launch, self.address = run_id, launch, address
        self.id: str | None = None
        self._name = f"apflow-{run_id}"
        self._is_answer_lost = False  # the container may exist, and its id is unknown
        limit = launch.max_output_bytes
        self.stdout = Output(limit, output_log("stdout"))
        self.stderr = Output(limit, output_log("stderr"))
        self.logs = Output(limit)
        self._line = Line()
        self._warnings: list[str] = []

    def stop(self) -> None:
        """Make `run` end, with the container removed. From any thread."""
        self._line.cut()

    def run(self) -> Ending:
        """Run it to its end. The container is always removed, unless it must be kept.

        Raises:
            DockerError: it cannot be run.
        """
        ending = None
        with active(self.run_id):
            try:
                with connected(self.address, self._line) as client:
                    sweep_once(client)
                    self.id = self._create(client)
                    self._check_limits(client, self.id)
                    ending = self._live(client, self.id)
                return ending
            finally:
                is_kept = self.launch.is_kept and ending is not None and not self._line.is_cut
                if self._is_answer_lost:
                    remove(self.address, self._name, wait_seconds=CREATION_SECONDS)
                elif self.id is not None and not is_kept:
                    remove(self.address, self.id)

    def _create(self, client: Client) -> str:
        """Create the container and return its id. The image is pulled first, if that is wanted."""
        launch = self.launch
        if launch.network != NO_NETWORK:
            _check_network(client, launch.network)
        if launch.pull == "always":
            pull(client, launch.image)
        try:
            return self._ask_to_create(client)
        except ImageNotFoundError:
            if launch.pull != "missing":
                raise
        pull(client, launch.image)
        return self._ask_to_create(client)

    def _ask_to_create(self, client: Client) -> str:
        # Cutting this call would leave a container whose id is unknown.
        with asking(self.address, "create the container"), self._line.protected():
            try:
                created, self._warnings = client.create(self.launch.config, self._name)
            except APIError as error:
                # Some engines answer 500 instead of 404.
                if isinstance(error, ImageNotFound) or "no such image" in explained(error).lower():
                    raise ImageNotFoundError(self.launch.image, self.launch.pull) from error
                raise
            except LOST:
                self._is_answer_lost = True
                sweep_again(self.address)  # if the engine creates the container later than it is looked for
                raise
        return created

    def _check_limits(self, client: Client, container: str) -> None:
        with asking(self.address, "tell of the container"):
            held = client.inspect(container)["HostConfig"]
        dropped = self.launch.limits.not_held(held)
        if dropped:
            raise LimitNotHeldError(dropped, self._warnings)

    def _live(self, client: Client, container: str) -> Ending:
        """Start the container, take what it says, and wait for its end."""
        with asking(self.address, "give access to the container's streams"):
            output = socket_of(client.attach(container, stdout=1, stderr=1))
            stdin = client.attach(container, stdin=1) if self.launch.stdin else None
        with asking(self.address, "start the container"), _feeding(stdin, self.launch.stdin):
            try:
                client.start(container)
            except APIError as error:
                launch, cause = self.launch, start_fault(explained(error))
                raise ContainerStartError(launch.shown, launch.image, cause) from error
            for stream, data in read_frames(output):
                (self.stdout if stream == STDOUT else self.stderr).add(data)
                self.logs.add(data)
            exit_code = client.wait(container)
            return Ending(exit_code, exit_code != 0 and _is_out_of_memory(client, container, exit_code))


def read_frames(source: socket) -> Iterator[tuple[int, bytes]]:
    """Yield what a container says, piece by piece, each with the number of its stream, until the end."""
    while len(header := _exactly(source, HEADER)) == HEADER:
        stream, size = struct.unpack(">BxxxL", header)
        while size and (data := source.recv(min(size, READ_BYTES))):
            size -= len(data)
            yield stream, data


def start_fault(explanation: str) -> str:
    """Return the part of an engine's explanation that says why a program was not started."""
    return explanation.rpartition("unable to start container process: ")[2].removesuffix(": unknown")


def _exactly(source: socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.recv(size - len(data))):
        data += more
    return data


@contextmanager
def _feeding(stream: Response | None, data: bytes) -> Generator[None]:
    """Write the standard input meanwhile: a program may want to be read before it reads on."""
    if stream is None:
        yield
        return
    target = socket_of(stream)

    def feed() -> None:
        with suppress(OSError):  # the program does not want all of it
            target.sendall(data)
            stream.close()  # which ends the input

    thread = Thread(target=feed, name="apflow-docker-stdin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            socket.shutdown(target, SHUT_RDWR)
        thread.join()


def _check_network(client: Client, network: str) -> None:
    with asking(client.address, f"use the network {network!r}"):
        driver = client.network(network)["Driver"]
    if driver == "host":  # by its id
        check_network(driver)


def _is_out_of_memory(client: Client, container: str, exit_code: int) -> bool:
    """Return whether a container was killed for lack of memory. The engine may report it late."""
    until = time.monotonic() + OOM_SECONDS
    while not client.inspect(container)["State"].get("OOMKilled"):
        if exit_code != KILLED or time.monotonic() > until:
            return False
        # Of two reports about the end, the flag may show the later one only; the events show both.
        if client.events(container, "oom"):
            return True
        time.sleep(OOM_SECONDS / 5)
    return True
