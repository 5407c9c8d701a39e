"""Entry points are read from files, and are those that `importlib.metadata` finds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from apflow.core import plugins
from apflow.core.entry_points import is_path_readable, load_object, read_entry_points

GROUP = "apflow.executors"
POINTS = """
# of a distribution
[apflow.executors]
plain = one:Thing
 spaced  =  one.two : Thing.part [extra]

[apflow_other]
not_ours = one:Thing
[apflow.tools]
tool = one:Tool
"""


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of the import path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_they_are_those_of_importlib_metadata():
    expected = {
        (each.group, each.name, each.value)
        for owner in metadata.distributions()
        for each in owner.entry_points
    }
    assert {(each.group, each.name, each.value) for each in read_entry_points("")} == expected


def test_the_path_of_a_program_is_readable():
    # In a new process: a library in this one may have added a finder of distributions.
    program = "from apflow.core.entry_points import is_path_readable as f; print(f())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_a_file_is_read_as_importlib_metadata_reads_it(only_path: Path, kind: str):
    folder = only_path / f"one-1.0.{kind}"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(POINTS)
    (only_path / f"none-1.0.{kind}").mkdir()
    (only_path / f"file-1.0.{kind}").touch()
    found = list(read_entry_points("apflow."))
    [owner] = [each for each in metadata.distributions() if each.entry_points]
    expected = [each for each in owner.entry_points if each.group.startswith("apflow.")]
    assert [each[:3] for each in found] == [(each.group, each.name, each.value) for each in expected]
    assert len(found) == 3
    assert {each.folder for each in found} == {str(folder)}


def test_directories_that_do_not_exist_have_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere")])
    assert list(read_entry_points("")) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [("os.path:join", "join"), ("os", "os"), (" os : path.join [extra, more]", "join")],
)
def test_an_object_is_loaded(value: str, expected: str):
    assert getattr(load_object(value), "__name__", None) == expected


def test_a_missing_object_is_an_attribute_error():
    with pytest.raises(AttributeError):
        load_object("os:nothing.of.the.kind")


def test_a_distribution_in_an_archive_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "plugin.zip"
    with ZipFile(archive, "w") as file:
        file.writestr("zipped-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 1.0\n")
        file.writestr("zipped-1.0.dist-info/entry_points.txt", f"[{GROUP}]\nzipped_one = zipped_one:Thing\n")
        file.writestr("zipped_one.py", "class Thing: pass\n")
    monkeypatch.syspath_prepend(str(archive))
    check_found("zipped_one", "zipped")


def test_a_distribution_of_another_finder_is_found(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    install("found-one", "found_one = found_one:Thing", "class Thing: pass")
    hidden = sys.path[0]
    monkeypatch.setattr(sys, "path", sys.path[1:])

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            return PathFinder.find_spec(name, [hidden]) if name == "found_one" else None

        @staticmethod
        def find_distributions(context: metadata.DistributionFinder.Context) -> Any:
            return metadata.MetadataPathFinder.find_distributions(
                metadata.DistributionFinder.Context(path=[hidden])
            )

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    check_found("found_one", "found-one")


def check_found(name: str, distribution: str) -> None:
    """Check that a plugin is found and loaded."""
    assert not is_path_readable()
    plugins.reset()
    try:
        info = plugins.find(GROUP, name)
        assert info is not None
        assert (info.distribution, info.value) == (distribution, f"{name}:Thing")
        assert getattr(plugins.load(GROUP, name), "__name__", None) == "Thing"
    finally:
        plugins.reset()
        sys.modules.pop(name, None)
