"""Compiling `.proto` files, in a separate process.

The compiler writes its errors to the standard error of its process and could take that down with it; in a
child both are contained, and it can be ended. It sees a temporary folder and what Google publishes as common.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import status_pb2  # type: ignore[import-untyped]

from apflow.executor.grpc.description import WELL_KNOWN_FILES
from apflow.executor.grpc.errors import GrpcDescriptionError

COMPILE_SECONDS = 20.0
MAX_FAULT_LENGTH = 2000
MAX_SET_BYTES = 32 << 20
SINGLE_NAME = "input.proto"
# Folders below google/ that may be imported beside google/protobuf: annotations, status, money and so on.
COMMON = ("api", "rpc", "type", "longrunning")

# No part begins with a hyphen: the compiler would take the name for an option.
_NAME = re.compile(r"[\w.][\w.-]*(/[\w.][\w.-]*)*", re.ASCII)

# What the compiler says beside its errors.
_LOG = re.compile(r"^(WARNING: All log messages before |[IWEF]\d{4} ).*\n?", re.MULTILINE)


def read_protos(given: str | Mapping[str, str]) -> dict[str, str]:
    """Return file contents by file name.

    Raises:
        GrpcDescriptionError: a name is not a relative path.
    """
    texts = {SINGLE_NAME: given} if isinstance(given, str) else dict(given)
    for name in texts:
        if not _NAME.fullmatch(name) or {".", ".."} & set(PurePosixPath(name).parts) or len(name) > 200:
            raise GrpcDescriptionError(
                f"proto_file: {name[:200]!r} is not a valid file name. "
                "Name it as others import it: folder/name.proto."
            )
    own = {name: text for name, text in texts.items() if name not in WELL_KNOWN_FILES}
    if not own:
        raise GrpcDescriptionError("proto_file holds no file.")
    return own


async def compile_protos(texts: Mapping[str, str]) -> list[FileDescriptorProto]:
    """Return compiled files, together with all that they import.

    Raises:
        GrpcDescriptionError: the compiler refuses them, in its words.
    """
    with tempfile.TemporaryDirectory(prefix="apflow-grpc-") as folder:
        arguments = _prepare(Path(folder), texts)
        code, said = await _run(arguments, folder)
        if code != 0:
            fault = _LOG.sub("", said.decode("utf-8", "replace")).replace(f"{folder}/own/", "").strip()
            cause = fault[:MAX_FAULT_LENGTH] or f"the compiler ended with {code}"
            raise GrpcDescriptionError(f"proto_file cannot be compiled: {cause}")
        return _read_set(Path(folder, "set"))


def _prepare(folder: Path, texts: Mapping[str, str]) -> list[str]:
    own, common = folder / "own", folder / "common" / "google"
    try:
        for name, text in texts.items():
            path = own / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:  # one file's name is another's folder
        raise GrpcDescriptionError(
            f"proto_file: the names of the files do not fit together: {error.strerror}"
        ) from error
    common.mkdir(parents=True)
    google = Path(status_pb2.__file__).parent.parent
    for name in COMMON:
        if (google / name).is_dir():
            (common / name).symlink_to(google / name)
    includes = [own, common.parent, _well_known()]
    return [
        *(f"--proto_path={each}" for each in includes),
        "--include_imports",
        f"--descriptor_set_out={folder / 'set'}",
        *texts,
    ]


def _read_set(path: Path) -> list[FileDescriptorProto]:
    if path.stat().st_size > MAX_SET_BYTES:
        raise GrpcDescriptionError(f"proto_file compiles to more than {MAX_SET_BYTES} bytes.")
    return list(FileDescriptorSet.FromString(path.read_bytes()).file)


def _well_known() -> Path:
    spec = find_spec("grpc_tools")
    if spec is None or spec.origin is None:
        raise GrpcDescriptionError("proto_file needs the compiler: pip install grpcio-tools.")
    return Path(spec.origin).parent / "_proto"


async def _run(arguments: list[str], folder: str) -> tuple[int | None, bytes]:
    # The child looks nowhere else for modules than this process does, and reads no start-up files (-S).
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.defpath}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-P", "-m", "grpc_tools.protoc", *arguments,
            cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise GrpcDescriptionError(
            f"proto_file cannot be compiled: {sys.executable!r} cannot be started: {error.strerror}. "
            "Give a descriptor_set instead."
        ) from error
    try:
        async with asyncio.timeout(COMPILE_SECONDS):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise GrpcDescriptionError(f"proto_file took over {COMPILE_SECONDS:g} s to compile.") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode, said
