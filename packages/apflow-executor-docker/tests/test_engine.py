import asyncio
import base64
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from peers.engine import IMAGE, Engine, an_engine
from peers.ports import free_socket, port_of
from peers.registry import a_registry

from apflow.core.errors import AddressRefusedError
from apflow.executor.docker import (
    DockerExecutor,
    DockerRefusedError,
    EngineAccessError,
    EngineLostError,
    EngineUnavailableError,
    ImageNotFoundError,
    ImagePullError,
    LimitNotHeldError,
)
from apflow.executor.docker import engine as engine_module
from apflow.testing.proxy import a_proxy

V1_MEMORY = Path("/sys/fs/cgroup/memory")


async def run(*command: str, **inputs: Any) -> dict[str, Any]:
    given = {"image": IMAGE, "command": list(command) or ["true"], "pull": "never"}
    return await DockerExecutor().execute(given | inputs)


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give a socket that takes connections and never answers."""
    path = f"/tmp/apflow-hangs-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield listening
    Path(path).unlink()


@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9", "unix:///etc/passwd"])
async def test_where_no_engine_answers_it_is_said_what_to_start(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineUnavailableError, match=r"DOCKER_HOST=unix.*") as caught:
        await run()
    assert "docker.io" in str(caught.value)


@pytest.mark.parametrize("host", ["ftp://x", "tcp://", "tcp://user:passw0rd@x:1", "tcp://x:y", "fd://3"])
async def test_what_is_no_address_is_told_without_its_password(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineUnavailableError, match="not a valid address") as caught:
        await run()
    assert "passw0rd" not in str(caught.value)


@pytest.mark.parametrize("host", ["ssh://user@build.example", "npipe:////./pipe/docker_engine"])
async def test_an_engine_whose_calls_cannot_be_ended_is_not_used(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineUnavailableError, match="not SSH or named pipes"):
        await run()


async def test_an_engine_that_hangs_is_given_up(hanging: socket.socket, monkeypatch: pytest.MonkeyPatch):
    assert engine_module.HELLO_SECONDS <= 5
    monkeypatch.setattr(engine_module, "HELLO_SECONDS", 1)
    async with asyncio.timeout(30):
        with pytest.raises(EngineUnavailableError, match="in time"):
            await run()


async def test_waiting_for_an_engine_that_hangs_is_cancelled_at_once(hanging: socket.socket):
    running = asyncio.ensure_future(run())
    await asyncio.wait([running], timeout=0.3)
    running.cancel()
    await asyncio.wait([running], timeout=30)
    assert running.cancelled(), "it hangs"


async def test_an_engine_that_dies_is_told_and_what_it_leaves_is_removed_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with an_engine() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        executor = DockerExecutor()
        # The engine, when it starts again, asks it to end.
        command = ["sh", "-c", "trap exit TERM; echo up; sleep 600 & wait"]
        running = asyncio.ensure_future(executor.execute({"image": IMAGE, "command": command}))
        while executor._container is None or not executor._container.stdout.total:
            await asyncio.sleep(0.02)
        engine.kill()
        async with asyncio.timeout(30):
            with pytest.raises(EngineLostError, match="stopped answering"):
                await running
        assert "not removed yet" in caplog.text
        engine.start()
        assert len(engine.containers()) == 1
        await run()
        assert engine.containers() == []


@pytest.mark.skipif(not V1_MEMORY.is_mount(), reason="the control groups of this machine are not version 1")
async def test_a_limit_that_cannot_be_held_is_refused_and_not_ignored(monkeypatch: pytest.MonkeyPatch):
    hide = f'umount {V1_MEMORY} && exec "$0" "$@"'
    with an_engine(launcher=("unshare", "--mount", "sh", "-c", hide)) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        with pytest.raises(LimitNotHeldError, match=r"resources\.memory.*memory limit") as caught:
            await run()
        assert caught.value.limits == ["memory"]
        assert engine.containers() == []


class Certificates:
    """A folder as DOCKER_CERT_PATH names one."""

    def __init__(self, folder: Path, authority: trustme.CA, signer: trustme.CA) -> None:
        self.folder = folder
        folder.mkdir()
        own = signer.issue_cert("127.0.0.1", "client")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        own.private_key_pem.write_to_path(str(folder / "key.pem"))


async def test_an_engine_at_a_port_is_used_with_certificates_and_refuses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = trustme.CA()
    good = Certificates(tmp_path / "good", authority, authority).folder
    wrong = Certificates(tmp_path / "wrong", authority, trustme.CA()).folder
    stranger = Certificates(tmp_path / "stranger", trustme.CA(), authority).folder
    files = [f"--tlscacert={good}/ca.pem", f"--tlscert={good}/cert.pem", f"--tlskey={good}/key.pem"]
    with ExitStack() as stack:
        address = f"tcp://127.0.0.1:{port_of(stack.enter_context(free_socket()))}"
        engine = stack.enter_context(an_engine(f"--host={address}", "--tlsverify", *files))
        monkeypatch.setenv("DOCKER_HOST", address)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(good))
        text = "é\n" * 100_000
        assert (await run("cat", stdin=text))["stdout"] == text
        running = asyncio.ensure_future(run("sleep", "600"))
        while len(engine.running()) != 1:
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running], timeout=30)
        assert running.cancelled(), "it hangs"
        assert engine.containers() == []
        monkeypatch.setenv("APFLOW_DOCKER_VOLUME_ROOTS", str(tmp_path))
        with pytest.raises(DockerRefusedError, match="another machine"):
            await run(volumes={str(tmp_path): "/data"})
        for folder in (wrong, stranger):
            monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
            with pytest.raises(EngineAccessError, match="DOCKER_CERT_PATH"):
                await run()
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        with pytest.raises(EngineUnavailableError, match="certificates are missing"):
            await run()


def test_a_socket_that_may_not_be_used_is_told():
    error = requests.ConnectionError("wrapped")
    error.__context__ = PermissionError(13, "Permission denied")
    told = engine_module._unavailable("unix:///run/docker.sock", error)
    assert isinstance(told, EngineAccessError)
    assert "Permission denied" in str(told) and "group docker" in str(told)


async def test_images_are_pulled_as_the_task_says(engine: Engine):
    with a_registry() as registry:
        image = f"{registry.host}/box:1"
        with pytest.raises(ImageNotFoundError, match='pull: "missing"'):
            await run(image=image)
        assert registry.asked == []
        assert (await run("echo", "pulled", image=image, pull="missing"))["stdout"] == "pulled\n"
        count = len(registry.asked)
        assert count > 0
        await run(image=image, pull="missing")
        assert len(registry.asked) == count
        await run(image=image, pull="always")
        assert len(registry.asked) > count
        digest = f"{registry.host}/other@{list(registry.blobs)[-1]}"
        assert (await run(image=digest, pull="missing"))["image"] == digest
        with pytest.raises(ImagePullError, match="missing"):
            await run(image=f"{registry.host}/box:missing", pull="missing")
    with pytest.raises(ImagePullError, match="connection refused"):
        await run(image=f"{registry.host}/another", pull="missing")
    for bad in ("UPPER/case", "a b", "-", "http://x/y", "x:y:z", ":", "@", "[::1]:x/y"):
        with pytest.raises((ImagePullError, ImageNotFoundError)):
            await run(image=bad, pull="always")


async def test_a_registry_is_given_the_credentials_of_this_machine_and_refuses_wrong_ones(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with a_registry(credentials="user:right-passw0rd") as registry:

        def know(credentials: str) -> None:
            auth = {"auth": base64.b64encode(credentials.encode()).decode()}
            (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: auth}}))

        know("user:wrong-passw0rd")
        image = f"{registry.host}/private:1"
        with pytest.raises(ImagePullError, match=r"unauthorized|no basic auth|401") as caught:
            await run(image=image, pull="missing")
        know("user:right-passw0rd")
        assert (await run("echo", "mine", image=image, pull="missing"))["stdout"] == "mine\n"
    for shown in (caplog.text, str(caught.value)):
        assert "passw0rd" not in shown
        assert base64.b64encode(b"user:right-passw0rd").decode() not in shown


async def test_a_pull_that_hangs_is_ended_by_timeout_and_cancellation(engine: Engine):
    with a_registry(hangs=True) as registry:
        image = f"{registry.host}/slow:1"
        running = asyncio.ensure_future(run(image=image, pull="missing"))
        await asyncio.to_thread(registry.is_asked.wait, 10)
        running.cancel()
        await asyncio.wait([running], timeout=30)
        assert running.cancelled(), "it hangs"


async def test_a_registry_is_judged_by_the_network_policy(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    with a_registry() as registry:
        with pytest.raises(AddressRefusedError, match="metadata"):
            await run(image="169.254.169.254/x", pull="missing")
        monkeypatch.setenv("APFLOW_NET_POLICY", "public")
        for pull in ("missing", "always"):
            with pytest.raises(AddressRefusedError, match="loopback"):
                await run(image=f"{registry.host}/judged:1", pull=pull)
        assert registry.asked == []
        monkeypatch.setenv("APFLOW_NET_ALLOW", "127.0.0.1")
        assert (await run(image=f"{registry.host}/judged:1", pull="missing"))["success"]


@pytest.mark.parametrize("lost", ["create", "start"])
async def test_a_request_whose_answer_is_lost_is_not_sent_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lost: str
):
    """The library keeps connections: a lost one must not create or start a second container."""
    marks: list[bytes] = []

    def is_lost(piece: bytes) -> bool:
        # The body of a creation arrives after its head, as a separate piece.
        if (b'"Image"' if lost == "create" else b"/start") in piece:
            marks.append(piece)
            return True
        return False

    with a_proxy(engine.url.removeprefix("unix://")) as proxy:
        proxy.cut_after = is_lost
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{proxy.port}")
        with pytest.raises((EngineLostError, EngineUnavailableError)):
            await run("true")
        assert len(marks) == 1
        async with asyncio.timeout(30):
            while not proxy.lost_answers:
                await asyncio.sleep(0.01)
    assert engine.containers() == []  # removed by name: its id is unknown if the answer was lost
