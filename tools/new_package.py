"""Starts a package from a template that begins with its tests.

    hatch run dev:python tools/new_package.py apflow-executor-http "Calls a web service"

It also gives the package its environment in `hatch.toml` and its line in `mypy.ini`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Template

from repository import ROOT, Package, report
from sync import version_now

TEMPLATES = ROOT / "tools" / "template"
# What the executor of a user begins with, the executor of a package of ours does, too.
OF_PLUGINS = ROOT / "packages/apflow-cli/src/apflow/cli/scaffold/templates"


def facts(name: str, description: str) -> dict[str, str]:
    """What the template's placeholders stand for."""
    words = Package(Path(name)).module.split(".")[-1].split("_")
    return {
        "name": name,
        "module": Package(Path(name)).module,
        "description": description.rstrip("."),
        "version": version_now(),
        "id": "_".join([*words, "executor"]),
        "title": " ".join(words).capitalize(),
        "class_name": "".join(word.capitalize() for word in words) + "Executor",
    }


def make(folder: Path, description: str) -> Package:
    """Write the package into `folder`, whose name is the distribution's."""
    package = Package(folder)
    is_executor = package.name.startswith("apflow-executor-")
    template = TEMPLATES / ("executor" if is_executor else "plain")
    places = {
        folder / "pyproject.toml": template / "pyproject.toml.txt",
        folder / "README.md": TEMPLATES / "README.md.txt",
        package.module_folder / "__init__.py": OF_PLUGINS / "executor" / "module.py.txt"
        if is_executor
        else template / "__init__.py.txt",
        folder / "tests" / "test_package.py": OF_PLUGINS / "executor" / "test_plugin.py.txt"
        if is_executor
        else template / "test_package.py.txt",
    }
    for place, source in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(Template(source.read_text()).substitute(facts(package.name, description)))
    shutil.copy(ROOT / "LICENSE", folder)
    (package.module_folder / "py.typed").touch()
    return package


def register(package: Package) -> None:
    """Give the package its environment, and show it to mypy."""
    members = [package.name, "apflow-core", "apflow-testing"]
    listed = ", ".join(f'"packages/{each}"' for each in members)
    name = package.name.removeprefix("apflow-")
    with (ROOT / "hatch.toml").open("a") as hatch:
        hatch.write(f"\n[envs.{name}]\nworkspace.members = [{listed}]\n")
        hatch.write(f'scripts.test = "pytest packages/{package.name} {{args}}"\n')
    mypy = ROOT / "mypy.ini"
    mypy.write_text(mypy.read_text().replace("packages =\n", f"packages =\n    {package.module},\n"))


def check(name: str) -> Iterator[str]:
    """What is wrong with a package made from the template."""
    with tempfile.TemporaryDirectory() as temporary:
        package = make(Path(temporary) / name, "An example")
        for file in package.folder.rglob("*.py"):
            compile(file.read_text(), str(file), "exec")
        for file in (each for each in package.folder.rglob("*") if each.is_file()):
            if file.name != "LICENSE" and "$" in file.read_text():
                yield f"{file.relative_to(temporary)}: a placeholder is left"
        if tomllib.loads((package.folder / "pyproject.toml").read_text())["project"]["name"] != name:
            yield f"{name}: the template gives it another name"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="the distribution: apflow-executor-http")
    parser.add_argument("description", nargs="?", help="one sentence")
    parser.add_argument("--check", action="store_true", help="only check the templates")
    options = parser.parse_args()
    if options.check:
        return report([*check("apflow-executor-example"), *check("apflow-example")])
    if not (options.name or "").startswith("apflow-") or not options.description:
        parser.error("give a name that begins with apflow-, and a description")
    folder = ROOT / "packages" / options.name
    if folder.exists():
        parser.error(f"{folder} exists")
    register(make(folder, options.description))
    environment = options.name.removeprefix("apflow-")
    print(f"{folder.relative_to(ROOT)} is there. Its tests: hatch run {environment}:test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
