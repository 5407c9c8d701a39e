"""Build the documents as a site, in `site/`, and check it.

The pages of the site are those of the repository: docs/, the README of each package, README.md and
CONTRIBUTING.md, at the same places relative to each other, so that their links lead to the same pages. The
navigation is the order of the links in the README.md of each folder of docs/.

hatch run docs:build
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from docs_links import faults
from docs_scripts import NODE, SCRIPTS, fetch
from repository import ROOT, packages, report

BUILD = ROOT / "build" / "site"
SOURCE = BUILD / "pages"
SITE = ROOT / "site"
SECTIONS = {
    "Tutorials": "tutorial",
    "How-to guides": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
}
LINK = re.compile(r"\[[^\]]+\]\(((?!https?:)[^)#]+\.md)\)")
HEADING = re.compile(r"^## (.+)$")
# The list of examples and files of deployments are read where they are, not as pages.
FILES = ("LICENSE", "deploy", "docs/examples", "benchmarks/README.md")

Nav = list[object]


def stage() -> None:
    """Copy the pages to where mkdocs reads them."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs", SOURCE / "docs")
    pages = ["README.md", "CONTRIBUTING.md", *(f"packages/{each.name}/README.md" for each in packages())]
    for name in [*pages, *FILES]:
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
        else:
            shutil.copytree(ROOT / name, target, dirs_exist_ok=True)
    fetch(SCRIPTS, BUILD / "scripts")
    (SOURCE / "assets").mkdir()
    for script in SCRIPTS:
        shutil.copy(BUILD / "scripts" / f"{script.package}-{script.file}", SOURCE / "assets" / script.file)


def navigation() -> Nav:
    """Return the navigation of the site."""
    found: Nav = [{"apflow": ["README.md", "docs/README.md", "CONTRIBUTING.md", "benchmarks/README.md"]}]
    for title, folder in SECTIONS.items():
        found.append({title: list(section(Path("docs", folder, "README.md")))})
    found.append({"Packages": [f"packages/{each.name}/README.md" for each in packages()]})
    return found


def section(index: Path) -> Iterator[object]:
    """Yield an index page and the pages that it links to, below its headings."""
    yield str(index)
    below: tuple[str, list[str]] | None = None
    listed: set[str] = set()
    for line in (ROOT / index).read_text(encoding="utf-8").splitlines():
        if heading := HEADING.match(line):
            if below is not None and below[1]:
                yield dict([below])
            below = (heading.group(1), [])
        for link in LINK.findall(line):
            page = os.path.normpath(index.parent / link)
            if page not in listed and page.startswith((str(index.parent), "packages")):
                listed.add(page)
                if below is None:
                    yield page
                else:
                    below[1].append(page)
    if below is not None and below[1]:
        yield dict([below])


def configuration() -> Path:
    """Write the configuration of mkdocs with what follows from the repository, and return its path."""
    sources = [str(each.folder / "src") for each in packages()]
    options = {"mkdocstrings": {"handlers": {"python": {"paths": sources}}}}
    made = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": str(SOURCE),
        "site_dir": str(SITE),
        "theme": {"custom_dir": str(ROOT / "tools" / "docs_theme")},
        "plugins": options,
        "nav": navigation(),
    }
    file = BUILD / "mkdocs.yml"
    file.write_text(yaml.safe_dump(made, sort_keys=False))
    return file


def check_diagrams() -> int:
    """Report the diagrams that Mermaid does not understand, and return the exit code."""
    mermaid = SOURCE / "assets" / SCRIPTS[0].file
    program = ROOT / "tools" / "docs_diagrams.js"
    return subprocess.run([NODE, program, mermaid, *sorted(SOURCE.rglob("*.md"))], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    stage()
    if (diagrams := check_diagrams()) != 0:
        return diagrams
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    # The theme announces its successor at each build.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run([*command, "-f", configuration()], env=environment, check=False)
    if built.returncode != 0:
        return built.returncode
    return report(list(faults(SITE)), "Fix these links; the pages are in site/.")


if __name__ == "__main__":
    sys.exit(main())
