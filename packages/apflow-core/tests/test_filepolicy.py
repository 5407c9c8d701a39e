"""Which files a task may name: below permitted folders, regular ones, and none that changes in between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from apflow.core.errors import FileRefusedError
from apflow.core.permissions.file_policy import FilePolicy, file_policy, read_certificates, read_file
from apflow.core.permissions.origin import Origin, working_for
from apflow.core.permissions.secret_policy import Author

LIMIT = 1000
# Files that are not regular, or are made by the kernel: reading one may block, or disclose data.
SPECIAL = [
    "/dev/stdin", "/dev/fd/0", "/dev/zero", "/dev/null", "/dev/tty", "/dev/random", "/proc/kmsg",
    "/proc/self/environ", "/proc/self/mem", "/proc/self/fd/0", "/proc/1/environ", "/sys/kernel/notes",
    "/proc/self/cwd", "/", "/etc", "/dev",
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "permitted"
    folder.mkdir()
    (folder / "file").write_text("content")
    (tmp_path / "outside").write_text("other content")
    return folder


def remote() -> Origin:
    return Origin((Author("bob"),), "rest_executor")


def test_any_regular_file_may_be_named_on_this_machine(root: Path):
    assert FilePolicy().read(str(root / "file"), LIMIT) == b"content"


@pytest.mark.parametrize("path", SPECIAL)
@pytest.mark.parametrize("policy", [FilePolicy(), FilePolicy(("/",))])
def test_what_is_no_regular_file_is_refused_at_once(policy: FilePolicy, path: str):
    with pytest.raises((FileRefusedError, OSError)):
        policy.read(path, LIMIT)


def test_a_pipe_and_a_socket_are_refused_without_waiting(root: Path):
    os.mkfifo(root / "pipe")
    with pytest.raises(FileRefusedError, match="not a regular file"):
        FilePolicy().read(str(root / "pipe"), LIMIT)


def test_a_larger_file_is_refused(root: Path):
    (root / "large").write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(FileRefusedError, match="larger than 1,000 bytes"):
        FilePolicy().read(str(root / "large"), LIMIT)
    assert len(FilePolicy().read(str(root / "large"), LIMIT + 1)) == LIMIT + 1


def test_only_what_is_below_a_root_may_be_named(root: Path):
    policy = FilePolicy((str(root),))
    assert policy.read(str(root / "file"), LIMIT) == b"content"
    assert policy.read(f"{root}/../permitted/./file", LIMIT) == b"content"
    for path in (
        f"{root}/../outside",
        f"{root}2/file",
        str(root.parent),
        "/etc/passwd",
        "file",
        "~/.ssh/id_rsa",
    ):
        with pytest.raises(FileRefusedError, match="APFLOW_FILE_ROOTS"):
            policy.read(path, LIMIT)


def test_a_refusal_does_not_tell_whether_there_is_such_a_file(root: Path):
    policy = FilePolicy((str(root),))
    shown: set[str] = set()
    for name in ("outside", "missing"):
        with pytest.raises(FileRefusedError) as caught:
            policy.read(str(root.parent / name), LIMIT)
        shown.add(str(caught.value).replace(name, ""))
    assert len(shown) == 1


def test_links_are_followed_and_judged_by_where_they_lead(root: Path):
    (root / "inside").symlink_to("file")
    (root / "out").symlink_to(root.parent / "outside")
    (root / "folder").symlink_to(root.parent)
    policy = FilePolicy((str(root),))
    assert policy.read(str(root / "inside"), LIMIT) == b"content"
    for path in (root / "out", root / "folder" / "outside"):
        with pytest.raises(FileRefusedError):
            policy.read(str(path), LIMIT)


def test_a_path_that_changes_in_between_never_leads_out(root: Path):
    """One thread turns a folder into a link to the outside and back while another one reads through it."""
    inside, real, outside = root / "sub", root / "real", root.parent / "elsewhere"
    for folder, content in ((real, "mine"), (outside, "secret")):
        folder.mkdir()
        (folder / "file").write_text(content)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            real.rename(inside)
            inside.rename(real)
            inside.symlink_to(outside)
            inside.unlink()

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[bytes] = set()
    try:
        for _ in range(3000):
            try:
                seen.add(FilePolicy((str(root),)).read(str(inside / "file"), LIMIT))
            except (OSError, FileRefusedError):
                seen.add(b"")
    finally:
        is_over.set()
        swapping.join()
    assert b"secret" not in seen


def test_clients_of_a_server_may_name_none_by_default(root: Path, monkeypatch: pytest.MonkeyPatch):
    assert file_policy() == FilePolicy(None)
    with working_for(Origin(None, "rest_executor")):
        assert file_policy() == FilePolicy(None)
    with working_for(remote()):
        with pytest.raises(FileRefusedError, match="APFLOW_FILE_ROOTS"):
            file_policy().read(str(root / "file"), LIMIT)
        monkeypatch.setenv("APFLOW_FILE_ROOTS", str(root))
        assert file_policy().read(str(root / "file"), LIMIT) == b"content"
        monkeypatch.setenv("APFLOW_FILE_ROOTS", "*")
        assert file_policy() == FilePolicy(None)


def test_roots_bind_commands_of_this_machine_as_well(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APFLOW_FILE_ROOTS", f"{root},/nowhere")
    assert file_policy() == FilePolicy((str(root), "/nowhere"))


async def test_files_are_read_in_a_thread_under_the_policy_of_the_task(root: Path):
    assert await read_file(str(root / "file"), LIMIT) == b"content"
    with working_for(remote()), pytest.raises(FileRefusedError):
        await read_file(str(root / "file"), LIMIT)


async def test_certificates_are_read_from_a_file_or_a_folder(root: Path):
    block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    (root / "a.pem").write_text(f"größe\n{block}\n{block.replace('AAAA', 'BBBB')}\n")
    (root / "b.0").symlink_to("a.pem")
    os.mkfifo(root / "pipe")
    expected = f"{block}\n{block.replace('AAAA', 'BBBB')}"
    assert await read_certificates(str(root / "a.pem")) == expected
    assert await read_certificates(str(root)) == expected
    with pytest.raises(ValueError, match="no certificate"):
        await read_certificates(str(root / "file"))
    with pytest.raises(ValueError, match="null byte"):
        await read_certificates("a\0b")
