"""The reference page of packages, from their pyproject files."""

from __future__ import annotations

from markdown import GENERATED, code, page, table
from repository import UMBRELLA, Package, is_first_party, packages, requirement_name

HEAD = """# Packages

Each package is a separate distribution; installing it is all it takes to use it. Its README describes what
it brings in full. All have the same version, and a package accepts only the version of the core that it was
made for."""
NOTE = """Groups of entry points are how packages find each other: see [the
architecture](../explanation/architecture.md)."""


def packages_page() -> str:
    rows = [row(each) for each in packages()]
    return page(
        HEAD,
        GENERATED,
        table(["package", "what it is", "needs of apflow", "extras", "entry points"], rows),
        NOTE,
    )


def row(package: Package) -> list[str]:
    siblings = [requirement_name(each) for each in package.requirements if is_first_party(each)]
    needs = (
        "all" if package.name == UMBRELLA else ", ".join(each.removeprefix("apflow-") for each in siblings)
    )
    extras = ", ".join(map(code, package.project.get("optional-dependencies", {})))
    groups = dict.fromkeys(group for group, _, _ in package.entry_points)
    link = f"[`{package.name}`](../../packages/{package.name}/README.md)"
    return [link, str(package.project["description"]), needs, extras, ", ".join(map(code, groups))]
