"""The executor that runs a command in a container."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, ClassVar, Final

from apflow.core.concurrency.fair_semaphore import host_semaphore
from apflow.core.concurrency.thread_pool import ThreadPool
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.net.connect import net_policy
from apflow.core.settings import read_settings
from apflow.executor.docker.container import Container, Ending
from apflow.executor.docker.engine import Address, find_engine
from apflow.executor.docker.errors import (
    ContainerFailedError,
    ContainerTimeoutError,
    DockerRefusedError,
    OutOfMemoryError,
)
from apflow.executor.docker.owner import this_process
from apflow.executor.docker.plan import NO_NETWORK, Launch, plan_launch
from apflow.executor.docker.schema import SCHEMA, TIMEOUT
from apflow.executor.docker.volume import plan_volumes

MAX_CONTAINERS: Final = 32  # containers of this process; each holds a thread while it runs

_threads = ThreadPool("apflow-docker", MAX_CONTAINERS)


class DockerExecutor(BaseTask):
    """Runs one command in a new container, with minimal privileges."""

    id = "docker_executor"
    name = "Docker"
    description = "Runs a command in a container and returns its output and exit code."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    _container: Container | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the command. Its time begins when one of the places for containers is free.

        Raises:
            DockerError: see `apflow.executor.docker.errors`; nothing is left of the container.
            AddressRefusedError: the network policy forbids to connect to the image's registry.
        """
        address, run_id = find_engine(), uuid.uuid4().hex
        launch = self._plan(inputs, address, run_id)
        container = self._container = Container(run_id, launch, address)
        async with host_semaphore(self.id, "", MAX_CONTAINERS):
            started = time.monotonic()
            ending = await _run(container, inputs.get("timeout", TIMEOUT))
        _check(container, ending, is_strict=inputs.get("check", True))
        return {
            "container_id": container.id,
            "logs": container.logs.text,
            "stdout": container.stdout.text,
            "stderr": container.stderr.text,
            "exit_code": ending.exit_code,
            "success": ending.exit_code == 0,
            "image": launch.image,
            "command": inputs["command"],
            "duration": round(time.monotonic() - started, 6),
        }

    async def cancel(self) -> dict[str, Any]:
        """Return what the command has said so far. The end of `execute` is what ends the container."""
        container = self._container
        if container is None:
            return {"status": "cancelled"}
        said = {name: getattr(container, name).text for name in ("stdout", "stderr", "logs")}
        return {"status": "cancelled", "partial_result": said}

    def _plan(self, inputs: dict[str, Any], address: Address, run_id: str) -> Launch:
        """Return what to run, by the settings as they are now."""
        network = inputs.get("network", NO_NETWORK)
        if network != NO_NETWORK and net_policy().is_public:
            raise DockerRefusedError(
                f"The network {network!r} is refused: what a container connects to cannot be judged by "
                "APFLOW_NET_POLICY=public. Use none, or set APFLOW_NET_POLICY=open."
            )
        volumes = plan_volumes(inputs.get("volumes", {}), read_settings().docker_volume_roots, address.url)
        labels = this_process().labels(run_id, self.task_id, is_kept=not inputs.get("remove", True))
        ours = {"APFLOW_TASK_ID": self.task_id, "APFLOW_IDEMPOTENCY_KEY": self.idempotency_key}
        return plan_launch(inputs, volumes, labels, {name: value for name, value in ours.items() if value})


async def _run(container: Container, seconds: float) -> Ending:
    try:
        async with asyncio.timeout(seconds):
            return await _threads.run(container.run, stop=container.stop)
    except TimeoutError as error:
        shown, stdout, stderr = container.launch.shown, container.stdout, container.stderr
        raise ContainerTimeoutError(shown, seconds, stdout.tail, stderr.tail) from error


def _check(container: Container, ending: Ending, *, is_strict: bool) -> None:
    launch, code = container.launch, ending.exit_code
    said = container.stdout.tail, container.stderr.tail
    if ending.is_out_of_memory:
        raise OutOfMemoryError(launch.shown, code, *said, launch.limits.memory)
    if code != 0 and is_strict:
        raise ContainerFailedError(launch.shown, code, *said)
