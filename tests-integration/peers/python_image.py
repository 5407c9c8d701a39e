"""The file system of a base image with the Python of these tests, for builds that cannot reach a registry.

It has busybox, this Python with its standard library and the shared libraries that these need.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from peers.engine import busybox_image

PREFIX = Path(sys.base_prefix)
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
LEFT_OUT = {"test", "tests", "site-packages", "__pycache__", "idlelib", "tkinter"}
# Libraries that wheels need beside those of Python.
FOR_WHEELS = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "librt.so.1",
    "libdl.so.2",
    "libutil.so.1",
)


def python_image() -> bytes:
    """Return the tar of the file system."""
    content = io.BytesIO(busybox_image())
    files = sorted(_files_of_python())
    with tarfile.open(fileobj=content, mode="a") as tar:
        for each in files:
            tar.add(each, str(each).lstrip("/"), recursive=False)
        for library in sorted(_libraries_of(files)):
            if not library.is_relative_to(PREFIX):
                tar.add(library.resolve(), str(library).lstrip("/"))
        for name in ("python", "python3"):
            _add_link(tar, f"usr/local/bin/{name}", str(PREFIX / "bin" / VERSION))
        _add_link(tar, "usr/bin/env", "/bin/busybox")
        _add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        _add_text(tar, "etc/group", "root:x:0:\n")
    return content.getvalue()


def _files_of_python() -> Iterator[Path]:
    yield PREFIX / "bin" / VERSION
    yield from PREFIX.glob("lib/libpython3*.so*")
    for each in (PREFIX / "lib" / VERSION).rglob("*"):
        parts = set(each.relative_to(PREFIX).parts)
        if not parts & LEFT_OUT and each.suffix != ".a" and (each.is_file() or each.is_symlink()):
            yield each


def _libraries_of(files: list[Path]) -> set[Path]:
    programs = [str(each) for each in files if each.name == VERSION or ".so" in each.suffixes]
    printed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    found = {Path(each) for each in re.findall(r"(?m)^\s+(?:\S+ => )?(/\S+) \(0x", printed)}
    cached = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for name in FOR_WHEELS:
        known = re.search(rf"(?m)^\s+{re.escape(name)} \(.*(?:x86-64|AArch64).*\) => (\S+)$", cached)
        found |= {Path(known[1])} if known else set()
    return found


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))
