"""URLs of databases as people may see them."""

from __future__ import annotations

import re


def shown_url(url: str) -> str:
    """Return a URL without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
