"""The map of the repository for maintainers: every directory has a place in it."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from markdown import GENERATED, code, page, table
from repository import ROOT, packages

HEAD = """# The map of the repository

Where everything is, and why it is there. [CONTRIBUTING](../../CONTRIBUTING.md) says how to work on it, and
[the architecture](architecture.md) follows one task through the packages. A file that has no place here
fails the checks."""
MODULES = """Each distribution is a directory of `packages/`, and its name is its module:
`apflow-storage-duckdb` is `src/apflow/storage/duckdb`. All share the namespace `apflow`, so there is no
`src/apflow/__init__.py`."""
# A pattern of directories, and what they are for. The tables of packages and tools have their own rows.
PLACES = {
    ".": "settings of the tools, one file each, and what all packages share: licence, changelog, constraints",
    ".ci": "what must pass before a merge, as one command",
    "benchmarks": "measures every figure beside its floor",
    "benchmarks/peers": "runs the same trees in other systems, for the comparison in the documents",
    "benchmarks/peers/programs": "one program for each system, which imports nothing of this repository",
    "changelog.d": "one fragment for each change that a user can notice; `tools/bump.py` collects them",
    "deploy/*": "files for deployments: an image, a site of nginx, units of systemd, Kubernetes manifests",
    "docs": "the documents; each page is reached from its README",
    "docs/tutorial": "lessons: a reader builds something that works",
    "docs/how-to": "guides, each for one task",
    "docs/reference": "what is so; most pages are generated from the code",
    "docs/reference/api": "which names are public in Python; their docstrings are in the code",
    "docs/explanation": "why it is so",
    "docs/pictures": "pictures of the page of the server; `hatch run web:screenshots` takes them",
    "docs/recordings": "recordings of terminals, as animated pictures; `tools/record_terminal.py` draws them",
    "docs/recordings/*": "a session that is recorded: what is typed, and the files that it needs",
    "docs/examples/*": "trees that run, with what they need",
    "packages/*": "one distribution: its `pyproject.toml`, its README, its copy of the licence",
    "packages/*/src/*": "its modules; see the tables of packages",
    "packages/*/tests": "its tests, which need only what it declares and the test kit",
    "packages/apflow-server/web": "the page of the server: what it is built with, and its two documents",
    "packages/apflow-server/web/scripts": "builds, measures and photographs the page",
    "packages/apflow-server/web/src": "the sources of the page, in TypeScript: its entries and its frame",
    "packages/apflow-server/web/src/*": "`model` decides, `api` calls, `stores` keep, the others draw",
    "packages/apflow-server/web/src/views/*": "the parts of one view of the page",
    "packages/apflow-server/web/tests/unit": "tests of what the page decides",
    "packages/apflow-server/web/tests/journeys": "tests in a browser, against a real server",
    "tests-integration": "tests of several packages together, in real processes, against real peers",
    "tests-integration/documents": "runs the pages of `docs/`, each by itself, as a reader would",
    "tests-integration/faults": "kills processes, fills disks, and checks that nothing is lost",
    "tests-integration/faults/*": "the parts of these suites: workers, faults, histories and their checks",
    "tests-integration/mcp_suite": "the conformance suite of MCP, with what is expected of it",
    "tests-integration/peers": "real servers and agents that tests talk to",
    "tests-integration/peers/*": "packages of npm that are peers, locked",
    "tests-integration/plugins/*": "distributions of others: broken ones, rivals, ones for another version",
    "tests-integration/seeds": "the programs that apflow was first described by, with what they promise",
    "tests-integration/seeds/*": "these programs, by the document that they are from",
    "tests-integration/seeds/*/*": "their parts, one for each executor",
    "tools": "programs that generate and check; see the table of tools",
    "tools/docs_theme": "what the site changes in its theme",
    "tools/template": "the files that all packages start with",
    "tools/template/*": "the packages that `tools/new_package.py` starts",
}  # fmt: skip


def map_page() -> str:
    found = directories()
    unexplained = sorted({each for each in found if not any(explains(place, each) for place in PLACES)})
    if unexplained:
        raise SystemExit(
            f"tools/page_map.py explains no place of: {', '.join(unexplained)}. Add a line to PLACES."
        )
    empty = [place for place in PLACES if not any(explains(place, each) for each in found)]
    if empty:
        raise SystemExit(f"tools/page_map.py explains {', '.join(empty)}, where no file is. Remove the line.")
    return page(
        HEAD,
        GENERATED,
        "## Directories",
        table(["directory", "what is in it"], [[code(each), about] for each, about in PLACES.items()]),
        "## Modules of packages",
        MODULES,
        table(["module", "what it is for"], modules()),
        "## Tools",
        "`hatch run dev:check` runs those with `--check`; `hatch.toml` says which commands run the others.",
        table(["tool", "what it does"], tools()),
    )


def directories() -> list[str]:
    """Return the directories that hold files of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [str(Path(each).parent) for each in listed.splitlines() if (ROOT / each).exists()]


def explains(place: str, directory: str) -> bool:
    """Whether a place is this directory: it has as many parts, or is for everything below it."""
    is_as_deep = place.endswith("src/*") or directory.count("/") == place.count("/")
    return is_as_deep and fnmatchcase(directory, place)


def modules() -> Iterator[list[str]]:
    """Yield a row for each distribution's module and for the packages in it."""
    for package in packages():
        yield [code(package.module), about(package.module_folder / "__init__.py")]
        if package.module.startswith("apflow."):
            for file in sorted(package.module_folder.glob("*/__init__.py")):
                yield [code(f"{package.module}.{file.parent.name}"), about(file)]


def tools() -> Iterator[list[str]]:
    for file in sorted((ROOT / "tools").glob("*.py")):
        yield [code(file.name), about(file)]


def about(file: Path) -> str:
    """Return the first paragraph of the docstring of a module."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{file.relative_to(ROOT)} has no docstring: say in one line what it is for.")
    return docstring.partition("\n\n")[0]
