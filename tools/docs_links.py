"""What is wrong with the pages of a built site: dead links, and what is loaded from other hosts.

The build reports dead links of Markdown. This reads what a browser reads: also the links of the theme, of API
references and of raw HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}
IN_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)")


@dataclass
class Page(HTMLParser):
    """The links, the anchors, and what is loaded, of one page.

    `root` is where a link that begins with a slash starts: only the page for missing pages has such links,
    because it is shown at any address.
    """

    file: Path
    root: Path
    links: list[str] = field(default_factory=list[str])
    loaded: list[str] = field(default_factory=list[str])
    anchors: set[str] = field(default_factory=set[str])
    policy: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if given.get("rel") not in NOT_LOADED:
            self.loaded += [given[name] for kind, name in LOADS if kind == tag and name in given]


def faults(site: Path) -> Iterator[str]:
    """Yield what is wrong with the pages of a site."""
    pages = {file.resolve(): Page(file, root_of(file, site)) for file in sorted(site.rglob("*.html"))}
    for page in pages.values():
        shown = page.file.relative_to(site)
        for link in page.links:
            if (fault := fault_of(link, page, pages)) is not None:
                yield f"{shown}: {fault}"
        for url in page.loaded:
            if urlsplit(url).netloc:
                yield f"{shown}: loads {url} from another host"
            elif not url.startswith("data:") and not target_of(url, page).is_file():
                yield f"{shown}: loads {url}, which does not exist"
        if "default-src 'self'" not in page.policy:
            yield f"{shown}: has no policy that forbids to load from other hosts"
    for file in sorted(site.rglob("*.css")):
        for url in IN_STYLE.findall(file.read_text(encoding="utf-8")):
            yield f"{file.relative_to(site)}: loads {url} from another host"


def fault_of(link: str, page: Page, pages: dict[Path, Page]) -> str | None:
    """Return what is wrong with a link, or None. Links to other hosts are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = target_of(link, page)
    if not target.exists():
        return f"{link} leads to no file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"{link} leads to no heading"
    return None


def target_of(link: str, page: Page) -> Path:
    path = unquote(urlsplit(link).path)
    if path.startswith("/"):
        return (page.root / path.lstrip("/")).resolve()
    return (page.file.parent / path).resolve() if path else page.file.resolve()


def root_of(file: Path, site: Path) -> Path:
    return site if file == site / "404.html" else Path("/")
