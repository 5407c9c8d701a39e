"""What a user gets who installs the wheels, in fresh environments."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
from installing import CONSTRAINTS, CREWAI, ROOT, Environment, Wheels, must_run, new_environment, run

pytestmark = pytest.mark.wheels
NAMES = sorted(each.parent.name for each in ROOT.glob("packages/*/pyproject.toml"))
PLUGINS = ROOT / "tests-integration" / "plugins"
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
top = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(top.__path__, top.__name__ + "."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
"""


def module_of(name: str) -> str:
    parts = name.split("-", 2)
    return ".".join([*parts[:2], *(part.replace("-", "_") for part in parts[2:])])


@pytest.fixture(scope="session")
def everything(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with all of ours but CrewAI's, which needs other versions of libraries."""
    environment = new_environment(tmp_path_factory.mktemp("everything") / "venv")
    installed = environment.install(*wheels.needed_by(name for name in NAMES if name != CREWAI))
    assert installed.returncode == 0, installed.stderr
    return environment


@pytest.fixture
def with_program(wheels: Wheels, tmp_path: Path) -> Environment:
    """An environment of this test's own, with the program, a database and one executor."""
    environment = new_environment(tmp_path / "venv")
    needed = wheels.needed_by(["apflow-cli", "apflow-storage-duckdb", "apflow-executor-system-info"])
    installed = environment.install(*needed)
    assert installed.returncode == 0, installed.stderr
    return environment


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_its_own_corner_of_the_namespace_and_nothing_else(wheels: Wheels, name: str):
    corner = module_of(name).replace(".", "/") + "/"
    files = wheels[name].files
    assert [file for file in files if not file.startswith(corner) and ".dist-info/" not in file] == []
    assert corner + "py.typed" in files
    assert any(file.endswith("/licenses/LICENSE") for file in files)


def archives(folder: Path, into: Path, epoch: int) -> dict[str, str]:
    """Build the wheel and the sdist of a package, and return their hashes by name."""
    options = ["--quiet", "--build-constraints", CONSTRAINTS, "-o", into]
    built = run("uv", "build", *options, folder, environment={"SOURCE_DATE_EPOCH": str(epoch)})
    assert built.returncode == 0, built.stderr
    found = [file for file in into.iterdir() if file.suffix in (".whl", ".gz")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


@pytest.mark.parametrize("name", NAMES)
def test_two_builds_are_equal(tmp_path: Path, name: str):
    """Of files at another place, written at another time, that only their owner may read."""
    folder, epoch = ROOT / "packages" / name, 1_700_000_000
    (tmp_path / "elsewhere" / ".git").mkdir(parents=True)
    shutil.copy(ROOT / ".gitignore", tmp_path / "elsewhere")
    copy = tmp_path / "elsewhere" / "packages" / name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache", "node_modules"))
    for file in copy.rglob("*"):
        file.chmod(0o700 if file.is_dir() else 0o600)
        os.utime(file, (epoch, epoch))
    first, second = archives(folder, tmp_path / "first", epoch), archives(copy, tmp_path / "second", epoch)
    assert len(first) == 2
    assert first == second


def test_a_build_at_another_time_is_another_archive(tmp_path: Path):
    folder = ROOT / "packages" / "apflow-http"
    builds = [archives(folder, tmp_path / str(epoch), epoch) for epoch in (1_700_000_000, 1_800_000_000)]
    assert builds[0].keys() == builds[1].keys()
    assert builds[0] != builds[1]


def test_the_wheel_of_the_server_has_the_page(wheels: Wheels):
    files = wheels["apflow-server"].files
    page = "apflow/server/ui/static/"
    assert {f"{page}index.html", f"{page}export.html"} <= set(files)
    assert [each for each in files if each.startswith(f"{page}assets/") and each.endswith(".js")]


@pytest.mark.parametrize("kind", ["--wheel", "--sdist"])
def test_the_server_is_not_built_without_the_page(tmp_path: Path, kind: str):
    copy = tmp_path / "apflow-server"
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "static", "tests")
    shutil.copytree(ROOT / "packages" / "apflow-server", copy, ignore=ignored)
    built = run("uv", "build", kind, "--build-constraints", CONSTRAINTS, "-o", tmp_path / "dist", copy)
    assert built.returncode != 0
    assert "npm run build" in built.stderr


# Modules of the former name that come with an extra, as they always did.
OF_EXTRAS = {"aipartnerupflow": ("apflow-server",)}
# What modules of a package need that only work with it.
EXTRAS = {"apflow-core": "yaml", "apflow-server": "a2a-grpc,mcp"}


@pytest.mark.parametrize("name", NAMES)
def test_a_package_imports_with_only_what_it_declares(wheels: Wheels, tmp_path: Path, name: str):
    alone = new_environment(tmp_path / "venv")
    installed = alone.install(*wheels.needed_by([name, *OF_EXTRAS.get(name, ())]))
    assert installed.returncode == 0, installed.stderr
    if name in EXTRAS:
        wheel = f"{name}[{EXTRAS[name]}] @ {wheels[name].path.as_uri()}"
        must_run("uv", "pip", "install", "--quiet", "--python", alone.python, "-c", CONSTRAINTS, wheel)
    warnings = "default" if name == CREWAI else "error"  # those of CrewAI's own imports
    must_run(alone.python, "-W", warnings, "-c", IMPORT_EVERYTHING, module_of(name))


def test_the_demonstration_runs_from_wheels(everything: Environment):
    tree = ROOT / "docs" / "examples" / "demo" / "tree.yaml"
    finished = everything.apflow(
        "run", "flow", "--tasks-file", str(tree), "--json", APFLOW_COMMAND_ALLOW="wc"
    )
    assert finished.returncode == 0, finished.stderr
    assert "completed" in finished.stdout


def test_the_packages_that_the_readme_names_are_a_command_line_on_duckdb(wheels: Wheels, tmp_path: Path):
    readme = (ROOT / "README.md").read_text()
    [of_clone] = re.findall(r"pip install \./packages/apflow-\{([\w,-]+)\}", readme)
    [of_wheels] = re.findall(r"pip install \./wheels/apflow_\{([\w,]+)\}", readme)
    assert of_clone == of_wheels.replace("_", "-")
    names = {f"apflow-{each}" for each in of_clone.split(",")}
    environment = new_environment(tmp_path / "venv")
    installed = environment.install(*(wheels[name].path for name in names))
    assert installed.returncode == 0, installed.stderr
    listed = must_run("uv", "pip", "list", "--python", environment.python)
    assert set(re.findall(r"(?m)^apflow\S*", listed)) == names
    (tmp_path / "sums.py").write_text(
        "from apflow.core import task\n\n\n@task\ndef add(a: int, b: int) -> int:\n    return a + b\n"
    )
    run = ("run", "flow", f"{tmp_path}/sums.py:add", "--inputs", '{"a": 2, "b": 3}')
    assert environment.answer(*run)["result"] == 5
    assert environment.answer("tasks", "list")["tasks"] != []


def test_the_former_name_starts_the_same_program(everything: Environment):
    ours, former = (everything.python.with_name(name) for name in ("apflow", "aipartnerupflow"))
    assert must_run(ours, "version", "--json") == must_run(former, "version", "--json")


FORMER = "aipartnerupflow"
IMPORT_EXECUTORS = """
import importlib, sys
for name in sys.argv[1:]:
    former = importlib.import_module(f"aipartnerupflow.extensions.{name}")
    for each in former.__all__:
        getattr(former, each)
import aipartnerupflow.api.main, aipartnerupflow.api.a2a.server
"""


def test_the_extras_of_the_former_name_install_what_they_name(wheels: Wheels, tmp_path: Path):
    """All but that of CrewAI, which needs other versions. Ours are wheels: overrides name them by path."""
    extras = "a2a,cli,docker,grpc,http,llm,mcp,postgres,ssh,websocket"
    ours = [
        f"{each}[{EXTRAS.get(each, '')}] @ {wheels[each].path.as_uri()}" for each in NAMES if each != FORMER
    ]
    overrides = tmp_path / "overrides.txt"
    overrides.write_text("\n".join(each.replace("[] ", " ") for each in ours))
    alone = new_environment(tmp_path / "venv")
    wanted = f"{FORMER}[{extras}] @ {wheels[FORMER].path.as_uri()}"
    options = ["--python", alone.python, "-c", CONSTRAINTS, "--override", overrides]
    must_run("uv", "pip", "install", "--quiet", *options, wanted)
    former = [
        "apflow", "core", "docker", "generate", "grpc", "http", "llm", "mcp", "ssh", "stdio", "websocket",
    ]  # fmt: skip
    must_run(alone.python, "-W", "error", "-c", IMPORT_EXECUTORS, *former)
    must_run(alone.python, "-c", "import apflow.storage.postgres, apflow.executor.a2a, a2a, mcp")
    for program in (FORMER, f"{FORMER}-server"):
        assert "Usage:" in must_run(alone.python.with_name(program), "--help")


def test_help_describes_the_commands_of_an_installed_plugin_without_importing_it(
    wheels: Wheels, with_program: Environment
):
    with_program.install(wheels["greeting-plugin"].path, is_forced=True)
    helped = with_program.apflow("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert re.search(r"(?m)^  greet +Print a greeting: one line\.$", helped.stdout)
    assert re.search(r"(?m)^  greet-quietly +From greeting-plugin 1\.0\.0\.$", helped.stdout)
    greeted = with_program.apflow("greet")
    assert (greeted.stdout, greeted.stderr) == ("hello\n", "greeting_plugin is imported\n")


def test_a_broken_plugin_is_listed_and_takes_nothing_down(wheels: Wheels, with_program: Environment):
    with_program.install(wheels["broken-plugin"].path, is_forced=True)
    assert "broken_executor" in with_program.apflow("executors", "list", "--json").stdout

    working = with_program.apflow("run", "flow", "system_info_executor", "--inputs", '{"resource": "cpu"}')
    assert working.returncode == 0, working.stderr

    used = with_program.apflow("run", "flow", "broken_executor", "--inputs", "{}")
    assert used.returncode != 0
    told = used.stdout + used.stderr
    assert "broken-plugin 1.2.3" in told
    assert "a_library_that_nobody_has" in told


def test_the_doctor_names_a_broken_plugin(wheels: Wheels, with_program: Environment):
    assert with_program.apflow("doctor").returncode == 0
    with_program.install(wheels["broken-plugin"].path, is_forced=True)
    finished = with_program.apflow("doctor")
    assert finished.returncode == 1
    assert "broken-plugin" in finished.stdout + finished.stderr


def test_two_owners_of_one_id_are_refused_until_a_setting_chooses(wheels: Wheels, with_program: Environment):
    with_program.install(wheels["rival-plugin"].path, is_forced=True)
    run = ("run", "flow", "system_info_executor", "--inputs", '{"resource": "cpu"}')

    refused = with_program.apflow(*run)
    assert refused.returncode != 0
    told = refused.stdout + refused.stderr
    assert "rival-plugin" in told
    assert "apflow-executor-system-info" in told
    assert "APFLOW_PLUGINS_PREFER" in told

    chosen = with_program.apflow(*run, "--json", APFLOW_PLUGINS_PREFER="system_info_executor=rival-plugin")
    assert chosen.returncode == 0, chosen.stderr
    assert "answered_by" in chosen.stdout


def test_a_plugin_for_another_version_is_refused_by_the_installer(wheels: Wheels, with_program: Environment):
    together = with_program.install(wheels["future-plugin"].path, *wheels.needed_by(["apflow-core"]))
    assert together.returncode != 0
    assert "apflow-core" in together.stderr


def test_a_plugin_for_another_version_that_was_forced_in_says_what_it_needs(
    wheels: Wheels, with_program: Environment
):
    with_program.install(wheels["future-plugin"].path, is_forced=True)
    used = with_program.apflow("run", "flow", "future_executor", "--inputs", "{}")
    assert used.returncode != 0
    told = used.stdout + used.stderr
    assert "future-plugin 4.0.0" in told
    assert "apflow-core~=9.0" in told
    assert f"apflow-core {wheels['apflow-core'].version} is installed" in told
