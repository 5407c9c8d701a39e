"""What errors of DuckDB say: what has happened to the file, and what to do. DuckDB itself raises them."""

import asyncio
import errno
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from apflow.core.errors import StoreDamagedError, StoreError, StoreLockedError
from apflow.storage.duckdb import DuckDBStore
from apflow.storage.duckdb.failure import as_store_error
from apflow.testing.building import a_task, a_tree

NO_OWNER = 65534
BLOCK, FIRST_DATA, DATA_BLOCK = 4096, 12288, 262144  # bytes of a DuckDB file


def url_of(path: Path) -> str:
    return f"duckdb:///{path}"


def write_some(path: Path, *, is_clean: bool) -> None:
    """Write a database in a process that closes it, or that leaves a write-ahead log."""
    end = "asyncio.run(store.close())" if is_clean else "os._exit(0)"
    program = (
        "import asyncio, os, sys\nfrom apflow.storage.duckdb import DuckDBStore\n"
        "from apflow.testing.building import a_tree\nstore = DuckDBStore(sys.argv[1])\n"
        "asyncio.run(store.add(a_tree('r', *(f'{n}' for n in range(2000)))))\n"
        f"asyncio.run(store.add(a_tree('s', 'after')))\n{end}\n"
    )
    subprocess.run([sys.executable, "-c", program, url_of(path)], check=True, timeout=60)


def overwrite(path: Path, start: int, length: int = 64) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + length] = b"\xa5" * length
    path.write_bytes(bytes(data))


async def open_it(path: Path) -> None:
    store = DuckDBStore(url_of(path))
    try:
        await store.tree("r")
        await store.tree("s")
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first block is damaged"),
        (b"a block of text\n" * 400, "first block is damaged"),
        (b"lock", "is not a valid"),
    ],
)
async def test_what_is_not_a_database_is_said_to_be_so(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "tasks.duckdb"
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=words):
        await open_it(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("start", [BLOCK, FIRST_DATA, FIRST_DATA + DATA_BLOCK])
async def test_a_damaged_file_is_not_taken_for_one_in_use(tmp_path: Path, start: int):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    # Which blocks are read depends on where DuckDB has put the columns, so all of them are damaged.
    ends = path.stat().st_size if start > FIRST_DATA else start + 1
    for block in range(start, ends, DATA_BLOCK):
        overwrite(path, block + 100)
    with pytest.raises(StoreDamagedError, match="Corrupt database file") as raised:
        await open_it(path)
    assert "restore a backup" in str(raised.value)


async def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    os.truncate(path, 5000)
    with pytest.raises(StoreDamagedError, match="restore a backup"):
        await open_it(path)


async def test_of_a_damaged_log_what_comes_before_the_damage_can_be_kept_as_advised(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=False)
    log = path.with_name("tasks.duckdb.wal")
    overwrite(log, log.stat().st_size - 100)
    with pytest.raises(StoreDamagedError, match="write-ahead log") as raised:
        await open_it(path)
    command = str(raised.value).partition("`")[2].partition("`")[0]
    assert command == f"truncate -s {command.split()[2]} {log}"
    os.truncate(log, int(command.split()[2]))
    store = DuckDBStore(url_of(path))
    assert len(await store.tree("r")) == 2001
    await store.close()


async def test_a_directory_and_a_place_that_cannot_be_written_are_named(tmp_path: Path):
    (tmp_path / "folder.duckdb").mkdir()
    with pytest.raises(StoreError, match=r"Is a directory.*Check the path"):
        await open_it(tmp_path / "folder.duckdb")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be created"):
        await open_it(tmp_path / "file" / "tasks.duckdb")
    with pytest.raises(StoreError, match="cannot be opened"):
        await open_it(tmp_path / ("x" * 300))


async def test_a_log_whose_first_entry_is_damaged_can_be_moved_away_as_advised(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    async with DuckDBStore(url_of(path)) as store:
        await store.add([a_task("first")])
    write_some(path, is_clean=False)
    log = path.with_name("tasks.duckdb.wal")
    overwrite(log, 2, 1)
    with pytest.raises(StoreDamagedError, match="Moving the log away loses all changes") as raised:
        await open_it(path)
    assert "truncate" not in str(raised.value)
    log.rename(tmp_path / "moved")
    async with DuckDBStore(url_of(path)) as store:
        assert set(await store.get(["first", "r"])) == {"first"}


async def test_a_log_of_another_database_is_said_to_be_so(tmp_path: Path):
    path, other = tmp_path / "tasks.duckdb", tmp_path / "other.duckdb"
    write_some(path, is_clean=False)
    write_some(other, is_clean=True)
    shutil.copyfile(other, path)
    with pytest.raises(StoreDamagedError, match="belongs to another copy"):
        await open_it(path)


async def test_a_block_that_is_damaged_while_the_file_is_open_is_damage(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    store = DuckDBStore(url_of(path))
    await store.get(["missing"])
    size = path.stat().st_size
    for start in range(FIRST_DATA, size, DATA_BLOCK):
        overwrite(path, start + 200, 1000)
    with pytest.raises(StoreDamagedError, match=r"cannot be read: Corrupt.*restore a backup"):
        await store.tree("r")
    await store.close()


def with_version(path: Path, version: int) -> None:
    """Write a storage version into the first block of a database, and its checksum."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 12, version)
    checksum = 5381
    for (value,) in struct.iter_unpack("<Q", data[8:BLOCK]):
        checksum ^= value * 0xBF58476D1CE4E5B9 % 2**64
    struct.pack_into("<Q", data, 0, checksum)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("version", "words"), [(1, "EXPORT DATABASE"), (100_000, "Upgrade the package duckdb")]
)
async def test_a_file_of_another_storage_version_is_left_as_it_is(tmp_path: Path, version: int, words: str):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    with_version(path, version)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words) as raised:
        await open_it(path)
    assert not isinstance(raised.value, StoreDamagedError)
    assert path.read_bytes() == before


async def test_an_sqlite_database_is_named_as_one(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    path.write_bytes(b"SQLite format 3\0" + bytes(8192))
    with pytest.raises(StoreDamagedError, match=r"SQLite database|not a valid DuckDB database"):
        await open_it(path)


async def test_a_file_that_other_code_of_the_process_has_open_is_named(tmp_path: Path):
    path = tmp_path / "tasks.duckdb"
    write_some(path, is_clean=True)
    with (
        duckdb.connect(str(path)),
        pytest.raises(StoreError, match=r"Other code in this process has .* open"),
    ):
        await open_it(path)


async def test_a_memory_limit_that_is_not_a_size_or_is_too_small_names_the_setting(tmp_path: Path):
    for limit in ("much", "1MB"):
        store = DuckDBStore(url_of(tmp_path / "tasks.duckdb"), memory_limit=limit)
        with pytest.raises(StoreError, match="duckdb_memory_limit"):
            await store.add(a_tree("r", *(f"{number:0100}" for number in range(20_000))))
        await store.close()


AS_NOBODY = """
import asyncio, sys
from apflow.storage.duckdb import DuckDBStore
from apflow.testing.building import a_task
from apflow.core.errors import StoreError
try:
    asyncio.run(DuckDBStore(sys.argv[1]).add([a_task("r")]))
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become another user"
)
@pytest.mark.parametrize("mode", [0o600, 0o444])
def test_a_file_that_the_user_may_not_write_says_so(mode: int):
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        folder.chmod(0o777)
        path = folder / "tasks.duckdb"
        write_some(path, is_clean=True)
        path.with_name("tasks.duckdb.lock").unlink()
        path.chmod(mode)
        try:
            ended = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, url_of(path)],
                capture_output=True,
                text=True,
                check=False,
                user=NO_OWNER,
                timeout=60,
            )
        except PermissionError:
            pytest.skip("another user cannot run this Python")
        if "Permission denied" in ended.stderr:
            pytest.skip("another user cannot run this Python")
        assert "Permission denied" in ended.stdout
        assert "Give this user the right to read and write" in ended.stdout
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    written = 1
    with path.open("wb", buffering=0) as file:
        while written:
            try:
                written = file.write(bytes(4096))
            except OSError:
                written = 0


async def test_a_full_disk_is_named_and_what_was_acknowledged_stays(small_disk: Path):
    path = small_disk / "tasks.duckdb"
    fill(small_disk / "filling")
    with pytest.raises(StoreError, match=r"No space left.*|cannot be locked"):
        await DuckDBStore(url_of(path)).add([a_task("early")])
    (small_disk / "filling").unlink()
    store = DuckDBStore(url_of(path))
    await store.add([a_task("kept")])
    fill(small_disk / "filling")
    with pytest.raises(StoreError, match=r"No space left on device.*Free space"):
        await store.add(a_tree("r", *(f"{number:0200}" for number in range(2000))))
    (small_disk / "filling").unlink()
    await store.add([a_task("after")])
    assert set(await store.get(["kept", "after", "r"])) == {"kept", "after"}
    await store.close()


async def test_a_file_system_that_is_read_only_is_named(small_disk: Path):
    path = small_disk / "tasks.duckdb"
    async with DuckDBStore(url_of(path)) as store:
        await store.add([a_task("kept")])
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match="Read-only file system"):
        await open_it(path)


CODES = ("EACCES", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENOENT", "ENOSPC", "ENOTDIR", "EROFS")


@pytest.mark.parametrize("code", CODES)
def test_the_reason_that_the_system_gives_decides_not_the_path(code: str):
    reason = os.strerror(getattr(errno, code))
    paths = [Path(f"/a lock/{os.strerror(getattr(errno, other))}/block") for other in CODES]
    said = {
        str(
            as_store_error(
                duckdb.IOException(f'IO Error: Cannot open file "{path}": {reason}'), "U", path, doing="fails"
            )
        )
        .replace(str(path), "PATH")
        .replace(str(path.parent), "DIRECTORY")
        for path in paths
    }
    assert len(said) == 1
    assert reason in said.pop()


@pytest.mark.parametrize(
    "message",
    [
        "Binder Error: a block and a clock",
        'Constraint Error: Duplicate key "Corrupt database file: no lock, No space left on device"',
        "Conversion Error: Could not set lock on 'PID 12'",
    ],
)
def test_what_a_message_quotes_decides_nothing(message: str):
    read = as_store_error(duckdb.BinderException(message), "duckdb:///x", Path("/x"), doing="cannot be read")
    assert type(read) is StoreError
    assert str(read) == f"duckdb:///x cannot be read: {message}."


def test_a_file_in_use_names_the_process():
    message = (
        'IO Error: Could not set lock on file "/x": Conflicting lock is held in /bin/python3.11 (PID 42). See'
        " also https://duckdb.org/docs/current/connect/concurrency"
    )
    read = as_store_error(duckdb.IOException(message), "duckdb:///x", Path("/x"), doing="cannot be opened")
    assert isinstance(read, StoreLockedError)
    assert read.pid == 42
