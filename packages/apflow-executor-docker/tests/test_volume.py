import os
import socket
from pathlib import Path
from typing import Any

import pytest

from apflow.executor.docker.errors import DockerRefusedError
from apflow.executor.docker.volume import plan_volumes

URL = "unix:///nowhere/docker.sock"


def refusal(source: object, root: object, target: Any = "/data", url: str = URL) -> str:
    with pytest.raises(DockerRefusedError) as caught:
        plan_volumes({str(source): target}, [str(root)], url)
    return str(caught.value)


def test_what_is_below_a_root_is_mounted_by_its_real_path(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    link, real = str(tmp_path / "link"), str(tmp_path / "real")
    (volume,) = plan_volumes({link: {"bind": "/data", "mode": "rw"}}, [str(tmp_path)], URL)
    mount = volume.mount()
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (real, "/data", False)
    (volume,) = plan_volumes({link: "/data"}, [str(tmp_path)], URL)
    assert volume.is_read_only
    assert plan_volumes({}, [], "http://127.0.0.1:2375") == []


def test_volumes_are_off_until_a_root_is_named(tmp_path: Path):
    with pytest.raises(DockerRefusedError, match="APFLOW_DOCKER_VOLUME_ROOTS"):
        plan_volumes({str(tmp_path): "/data"}, [], URL)


def test_what_is_outside_of_the_roots_is_refused(tmp_path: Path):
    for name in ("root", "root-2"):
        (tmp_path / name).mkdir()
    assert "below none" in refusal(tmp_path / "root-2", tmp_path / "root")
    assert "below none" in refusal(tmp_path, tmp_path / "root")
    (tmp_path / "root" / "out").symlink_to(tmp_path / "root-2")
    assert "below none" in refusal(tmp_path / "root" / "out", tmp_path / "root")


@pytest.mark.parametrize(
    "path",
    ["/", "/proc", "/proc/1", "/proc/self/root", "/sys", "/sys/fs/cgroup", "/dev", "/run", "/var", "//"],
)
def test_what_holds_the_machine_is_refused_below_any_root(path: str):
    assert "refused" in refusal(path, "/")


def test_a_link_to_what_holds_the_machine_is_refused(tmp_path: Path):
    for number, target in enumerate(("/", "/proc", "/proc/self/root")):
        (tmp_path / str(number)).symlink_to(target)
        assert "refused" in refusal(tmp_path / str(number), tmp_path)


def test_the_engines_socket_and_the_folder_of_it_are_refused(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listening:
        path = f"/tmp/apflow-test-{os.getpid()}.sock"
        listening.bind(path)
        try:
            (tmp_path / "link").symlink_to(path)
            url = f"unix://{path}"
            for each in (path, tmp_path / "link", "/tmp"):
                assert "refused" in refusal(each, "/", url=url)
            # Nor any other socket.
            assert "neither a folder nor a file" in refusal(path, "/")
        finally:
            Path(path).unlink()
    assert "refused" in refusal("/dev/null", "/")


@pytest.mark.parametrize("source", ["data", "./data", "", "~/data", "named-volume"])
def test_a_name_is_no_volume(source: str):
    assert "absolute path" in refusal(source, "/srv")


def test_paths_are_written_plainly(tmp_path: Path):
    assert "`..`" in refusal(f"{tmp_path}/../x", tmp_path)
    assert "`..`" in refusal(f"{tmp_path}/a\0b", tmp_path)
    for target in ("/a/../b", "/", "//", "relative", ""):
        assert "refused" in refusal(tmp_path, tmp_path, target) or "absolute" in refusal(
            tmp_path, tmp_path, target
        )


def test_what_is_not_there_is_not_made(tmp_path: Path):
    assert "No such file" in refusal(tmp_path / "none", tmp_path)
    assert not (tmp_path / "none").exists()


def test_an_engine_elsewhere_is_given_none(tmp_path: Path):
    assert "another machine" in refusal(tmp_path, tmp_path, url="https://build.example:2376")


def test_a_relative_root_permits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "below none" in refusal(tmp_path, ".")
