"""The container image: built without network from wheels and a local base image, and run."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shlex
import shutil
import tarfile
import time
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from installing import CONSTRAINTS, ROOT, must_run, new_environment
from peers import required
from peers.engine import an_engine
from peers.python_image import python_image

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(1800)]  # the first test builds the image
BASE, IMAGE = "apflow-test/python:1", "apflow-test/apflow:1"
SECRET = "a secret of tests that is long enough to sign tokens with"
BUILD_SECONDS, START_SECONDS, RUN_SECONDS = 900, 60.0, 120.0
PACKAGES = ("apflow-cli", "apflow-server", "apflow-storage-duckdb", "apflow-executor-system-info")


def requirements(names: tuple[str, ...]) -> list[str]:
    """Return what packages of this repository require of others, with the siblings that they require."""
    found, seen, waiting = list[str](), set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]
        for each in project["dependencies"]:
            required = re.split(r"[^A-Za-z0-9-]", each, maxsplit=1)[0]
            if (ROOT / "packages" / required).is_dir():
                waiting.append(required)
            else:
                found.append(each)
    return found


def build_context(folder: Path) -> Path:
    """Return a clone with the wheels of all dependencies."""
    context = folder / "context"
    for name in ("packages", "deploy"):
        shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    for name in ("constraints.txt", ".dockerignore"):
        shutil.copy(ROOT / name, context / name)
    downloading = new_environment(folder / "venv")
    must_run("uv", "pip", "install", "--quiet", "--python", downloading.python, "pip")
    must_run(
        downloading.python, "-m", "pip", "download", "--quiet", "--only-binary", ":all:",
        "-c", CONSTRAINTS, "-d", context / "wheelhouse", "hatchling>=1.27", *requirements(PACKAGES),
    )  # fmt: skip
    return context


@dataclass
class Container:
    """A container of the image."""

    client: docker.APIClient
    id: str

    def state(self) -> dict[str, Any]:
        """Return its state."""
        return self.client.inspect_container(self.id)["State"]

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """Run a program in it, and return the exit code and the output; if that is empty, the errors."""
        line = f"{shlex.join(command)} > /tmp/output 2> /tmp/errors"
        made = self.client.exec_create(self.id, ["sh", "-c", line], environment=environment)
        # Without attaching to it: docker 7 loses output that arrives together with the response.
        self.client.exec_start(made["Id"], detach=True)
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.client.exec_inspect(made["Id"]))["Running"]:
            assert time.monotonic() < deadline, f"{line} takes too long: {self.log()}"
            time.sleep(0.05)
        return state["ExitCode"], self.read("/tmp/output") or self.read("/tmp/errors")

    def read(self, path: str) -> str:
        """Return the content of a file in it."""
        content, _ = self.client.get_archive(self.id, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(content))) as tar:
            file = tar.extractfile(Path(path).name)
            assert file is not None
            return file.read().decode()

    def log(self) -> str:
        """Return what it has written."""
        return self.client.logs(self.id).decode()

    def wait_until_healthy(self) -> None:
        """Wait until the health check succeeds."""
        deadline = time.monotonic() + START_SECONDS
        while self.state()["Health"]["Status"] != "healthy":
            assert self.state()["Running"], self.log()
            assert time.monotonic() < deadline, (self.state(), self.log())
            time.sleep(0.1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.APIClient]:
    """A client of an engine that has built the image, without network."""
    if importlib.util.find_spec("ensurepip") is None:
        required.missing("This Python lacks ensurepip.")
    with an_engine() as engine:
        context = build_context(tmp_path_factory.mktemp("image"))
        client = docker.APIClient(base_url=engine.url, version="auto", timeout=BUILD_SECONDS)
        try:
            client.import_image_from_data(python_image(), *BASE.rsplit(":", 1))
            written = list(
                client.build(
                    path=str(context),
                    dockerfile="deploy/container/Dockerfile",
                    tag=IMAGE,
                    buildargs={
                        "BASE_IMAGE": BASE,
                        "PACKAGES": " ".join(PACKAGES),
                        "PIP_NO_INDEX": "1",
                        "PIP_FIND_LINKS": "/source/wheelhouse",
                    },
                    network_mode="none",
                    rm=True,
                    decode=True,
                )
            )
            faults = [each["error"] for each in written if "error" in each]
            assert faults == [], "".join(each.get("stream", "") for each in written)[-5000:]
            yield client
        finally:
            client.close()


@contextmanager
def running(
    client: docker.APIClient, *command: str, is_read_only: bool = False, **environment: str
) -> Generator[Container]:
    """Run a container of the image, and remove it at the end.

    Args:
        is_read_only: whether it can write to `/data` and `/tmp` only, which are empty, as the pods of
            `deploy/kubernetes`.
    """
    made = client.create_container(
        IMAGE,
        command=list(command) or None,
        environment=environment,
        volumes=["/data", "/tmp"] if is_read_only else None,
        host_config=client.create_host_config(network_mode="none", read_only=is_read_only),
        healthcheck={"interval": 500_000_000, "timeout": 5_000_000_000, "retries": 50},
    )
    container = Container(client, made["Id"])
    try:
        client.start(container.id)
        yield container
    finally:
        client.remove_container(container.id, force=True, v=True)


def test_the_image_runs_a_tree_as_a_user_without_rights_and_stops_on_the_signal(client: docker.APIClient):
    with running(client, APFLOW_JWT_SECRET=SECRET) as container:
        container.wait_until_healthy()
        assert container.run("id", "-u") == (0, "10001\n")
        code, token = container.run("apflow", "config", "gen-token", "--user-id", "ann", "--admin")
        assert code == 0, token
        run = (
            "apflow",
            "run",
            "flow",
            "system_info_executor",
            "--inputs",
            '{"resource": "memory"}',
            "--json",
        )
        code, output = container.run(*run, APFLOW_API_TOKEN=token.strip())
        assert code == 0, output
        assert json.loads(output)["status"] == "completed"
        code, output = container.run("apflow", "tasks", "list", "--json", APFLOW_API_TOKEN=token.strip())
        assert "system_info_executor" in output
        client.stop(container.id, timeout=30)
        assert container.state()["ExitCode"] == 0, container.log()


def test_the_image_runs_with_a_read_only_file_system(client: docker.APIClient):
    with running(client, is_read_only=True, APFLOW_JWT_SECRET=SECRET) as container:
        container.wait_until_healthy()
        assert container.run("touch", "/opt/apflow/file")[0] != 0
        code, token = container.run("apflow", "config", "gen-token", "--user-id", "ann")
        assert code == 0, token
        code, output = container.run(
            "apflow", "run", "flow", "system_info_executor", "--json", APFLOW_API_TOKEN=token.strip()
        )
        assert (code, json.loads(output)["status"]) == (0, "completed"), output


def test_the_image_does_not_serve_other_machines_without_tokens(client: docker.APIClient):
    with running(client) as container:
        code = client.wait(container.id, timeout=60)["StatusCode"]
        assert code != 0
        assert "APFLOW_JWT_SECRET" in container.log()


def test_the_image_runs_other_commands(client: docker.APIClient):
    with running(client, "version") as container:
        assert client.wait(container.id, timeout=60)["StatusCode"] == 0, container.log()
        assert "apflow-server" in container.log()


def test_what_the_image_declares(client: docker.APIClient):
    config = client.inspect_image(IMAGE)["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/opt/apflow/healthcheck.py"]
    assert list(config["Volumes"]) == ["/data"]
