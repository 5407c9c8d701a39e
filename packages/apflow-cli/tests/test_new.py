"""`apflow new`: packages of plugins that install, and pass their tests, as they are written."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from apflow.cli.scaffold.distribution import render, write
from apflow.cli.scaffold.kinds import KINDS, Kind
from apflow.cli.scaffold.names import make_names
from apflow.core.errors import InvalidInputError

BY_NAME = {each.name: each for each in KINDS}
EXECUTOR = BY_NAME["executor"]


def install(folder: Path, site: Path) -> str:
    """Install a package as an installer does in editable mode, and return its module."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
    (metadata / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
    points = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(points))
    [module] = [each.name for each in (folder / "src").iterdir()]
    (site / module).symlink_to(folder / "src" / module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, program_type: type[Any]) -> Any:
    """Return the program beside a new package of each kind, all installed."""
    folder = tmp_path_factory.mktemp("new")
    program = program_type(folder, "memory://")
    for kind in KINDS:
        done = program("new", kind.name, f"acme-{kind.name}", "--description", f"Is a new {kind.name}.")
        assert done.returncode == 0, done.stderr
        install(folder / f"acme-{kind.name}", folder / "site")
    program.environment["PYTHONPATH"] = str(folder / "site")
    return program


def test_new_packages_pass_their_tests(written: Any):
    kinds = [each for each in KINDS if each.name != "router" or find_spec("apflow.server")]
    files = [f"acme-{each.name}/tests/test_acme_{each.name}.py" for each in kinds]
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "asyncio_mode=auto", "-rf"]
    options += ["-k", "not TestAcmeStore"]  # `hatch run wheels` runs the whole contract of the store
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=written.folder,
        env=written.variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)


def test_a_new_executor_is_listed_and_runs(written: Any):
    listed = {each["id"]: each for each in written.json("executors", "list")["executors"]}
    assert listed["acme_executor"]["is_usable"] is True
    assert listed["acme_executor"]["distribution"] == "acme-executor"
    assert listed["acme_executor"]["description"] == "Is a new executor"
    ran = written.json("run", "flow", "acme_executor", "--inputs", '{"text": "hello"}')
    assert ran["result"] == {"text": "hello"}


def test_a_new_command_is_in_the_help_and_runs(written: Any):
    assert re.search(r"(?m)^  acme-command +Is a new command\.$", written("--help").stdout)
    assert written("acme-command", "Ada").stdout == "Hello, Ada.\n"


def test_a_new_provider_finds_the_secrets_of_tasks(written: Any, tmp_path: Path):
    (tmp_path / "greeting").write_text("hello from a file\n")
    inputs = '{"text": {"$secret": "greeting"}}'
    ran = written(
        "run", "flow", "acme_executor", "--inputs", inputs, env={"ACME_SECRETS_DIRECTORY": str(tmp_path)}
    )
    assert ran.returncode == 0, ran.stderr
    assert written("run", "flow", "acme_executor", "--inputs", inputs).returncode != 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_everything_is_filled_in(kind: Kind):
    texts = render(kind, make_names(kind, "Acme.Odd_name", None, None))
    for place, text in texts.items():
        assert "$" not in text.replace('"$secret"', "").replace("${{ matrix.python }}", ""), place
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["name"] == "acme-odd-name"
    assert "src/acme_odd_name/py.typed" in texts
    compile(texts["src/acme_odd_name/__init__.py"], "module", "exec")


@pytest.mark.parametrize(
    ("kind", "name", "extension_id", "said"),
    [
        ("executor", "no spaces", None, "not a valid name of a Python project"),
        ("executor", "../evil", None, "not a valid name"),
        ("executor", "-x", None, "not a valid name"),
        ("executor", "", None, "not a valid name"),
        ("executor", "3d-print", None, "Begin the name with a letter"),
        ("executor", "class", None, "Begin the name with a letter"),
        ("executor", "json", None, "'json' is the name of another module"),
        ("executor", "tests", None, "'tests' is the name of another module"),
        ("executor", "click", None, "A module 'click' is installed already"),
        ("executor", "apflow-executor-mine", None, "Names that begin with apflow are reserved"),
        ("executor", "aipartnerupflow.x", None, "Names that begin with aipartnerupflow are reserved"),
        ("executor", "mine", "rest_executor", "'rest_executor' is reserved for apflow"),
        ("executor", "mine", "flow_executor", "taken: apflow-core"),
        ("executor", "mine", ":x", "The id ':x' is not valid. Use letters"),
        ("executor", "mine", "a,b", "The id 'a,b' is not valid"),
        ("executor", "mine", "x" * 256, "it has 256 characters"),
        ("store", "mine", "duckdb", "'duckdb' is reserved"),
        ("store", "mine", "memory", "'memory' is reserved"),
        ("store", "mine", "My", "The URL scheme 'My' is not valid"),
        ("store", "memory-store", None, "The class would be called MemoryStore"),
        ("runner", "mine", "local", "'local' is reserved"),
        ("command", "mine", "run", "taken: apflow-cli"),
        ("command", "serve", None, "'serve' is reserved"),
        ("command", "mine", "-x", "The command '-x' is not valid"),
        ("router", "mine", "a/b", "The path 'a/b' is not valid"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(kind: str, name: str, extension_id: str | None, said: str):
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        make_names(BY_NAME[kind], name, extension_id, None)


@pytest.mark.parametrize("description", ['say "x"', "a\nb", "back\\slash", ".", "x" * 201])
def test_a_description_that_does_not_fit_into_the_files_is_refused(description: str):
    with pytest.raises(InvalidInputError, match="The description must be one line"):
        make_names(EXECUTOR, "mine", None, description)


def test_the_names_follow_from_the_one_that_is_given():
    names = make_names(BY_NAME["store"], "Acme_File.Store", None, None)
    assert (names.project, names.module, names.class_name) == (
        "acme-file-store",
        "acme_file_store",
        "AcmeFileStore",
    )
    assert names.extension_id == "acme-file-store"


def test_what_is_refused_writes_nothing(bare: Any):
    before = sorted(bare.folder.iterdir())
    refused = bare("new", "executor", "mine", "--id", "rest_executor")
    assert refused.returncode == 2
    assert "reserved for apflow" in refused.stderr
    missing = bare("new", "executor", "mine", "--directory", "nowhere")
    assert missing.returncode == 2
    assert "nowhere" in missing.stderr
    assert sorted(bare.folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["directory", "file", "dangling link"])
def test_what_exists_is_left_alone(bare: Any, kind: str):
    place = bare.folder / "mine"
    if kind == "directory":
        place.mkdir()
    elif kind == "file":
        place.write_text("precious")
    else:
        place.symlink_to("nowhere")
    before = sorted(bare.folder.rglob("*"))
    refused = bare("new", "executor", "mine")
    assert refused.returncode == 2
    assert "mine exists already" in refused.stderr
    assert sorted(bare.folder.rglob("*")) == before


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="cannot be written: Is a directory"):
        write({"a/b": "written", "a": "cannot be written"}, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_the_directory_may_be_read_as_any_new_one(tmp_path: Path):
    write({"a": "text"}, tmp_path / "mine")
    (tmp_path / "other").mkdir()
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("mine", "other")]  # noqa: PTH116
    assert modes[0] == modes[1]


def test_json_names_what_was_written(bare: Any):
    found = bare.json("new", "tool", "mine", "--directory", str(bare.folder))
    assert (found["group"], found["id"]) == ("apflow.tools", "mine")
    assert all((Path(found["directory"]) / each).is_file() for each in found["files"])
