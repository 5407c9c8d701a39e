"""Refuses to build a distribution without the page.

The built page is committed, so that neither a clone nor an installation from its folder needs Node. It is
missing only where it was removed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = Path("src", "apflow", "server", "ui", "static")
PARTS = ("index.html", "export.html")
COMMAND = "npm ci && npm run build, in packages/apflow-server/web"


class PageHook(BuildHookInterface[Any]):
    """Checks that the page is there, except for an editable installation, which a build may follow."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Raise `FileNotFoundError` if a part of the page is missing."""
        if version == "editable":
            return
        for part in PARTS:
            if not (Path(self.root) / STATIC / part).is_file():
                raise FileNotFoundError(f"{STATIC / part} is missing. Build the page: {COMMAND}.")
