import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apflow.core import plugins
from apflow.core.errors import PluginConflictError, PluginLoadError
from apflow.core.plugins import without_paths
from apflow.core.settings import reset_settings

Install = Callable[..., None]
GROUP = "apflow.executors"


def test_listing_and_finding_import_nothing(install: Install):
    install("stranger-one", "stranger = stranger_one:Thing", "raise RuntimeError('imported')")
    assert "stranger" in plugins.names(GROUP)
    assert plugins.is_offered(GROUP, "stranger")
    info = plugins.find(GROUP, "stranger")
    assert info == plugins.PluginInfo(GROUP, "stranger", "stranger-one", "1.2", "stranger_one:Thing")
    assert info in plugins.listing(GROUP)
    assert "stranger_one" not in sys.modules


def test_loading_imports_the_one_that_is_asked_for(install: Install):
    install("stranger-one", "stranger = stranger_one:Thing", "class Thing: pass")
    install("stranger-two", "other = stranger_two:Thing", "class Thing: pass")
    assert getattr(plugins.load(GROUP, "stranger"), "__name__", None) == "Thing"
    assert "stranger_one" in sys.modules
    assert "stranger_two" not in sys.modules


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot import name 'a' from 'b' (/srv/app/b.py)", "cannot import name 'a' from 'b' (...)"),
        ("[Errno 2] No such file or directory: '/etc/app/conf.toml'",
         "[Errno 2] No such file or directory: '...'"),
        ("C:\\app\\b.py is broken", "... is broken"),
        ("see https://example.com/a/b, or a/b and 1/2", "see https://example.com/a/b, or a/b and 1/2"),
        ("/x: no", "/x: no"),
    ],
)  # fmt: skip
def test_a_fault_is_told_without_where_files_are(said: str, told: str):
    assert without_paths(said) == told


def test_what_a_broken_plugin_says_of_files_here_is_not_told(install: Install):
    install("broken-two", "other = broken_two:Thing", "open('/etc/nowhere/to/be/found')")
    with pytest.raises(PluginLoadError) as caught:
        plugins.load(GROUP, "other")
    assert "FileNotFoundError" in str(caught.value)
    assert "nowhere" not in str(caught.value)
    assert "nowhere" in str(caught.value.__cause__)


def test_a_broken_plugin_is_listed_and_fails_only_when_used(install: Install):
    install("broken-one", "broken = broken_one:Thing", "import a_library_that_is_not_there")
    assert "broken" in plugins.names(GROUP)
    with pytest.raises(PluginLoadError) as caught:
        plugins.load(GROUP, "broken")
    assert "broken-one 1.2" in str(caught.value)
    assert "a_library_that_is_not_there" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_plugin_that_exits_on_import_does_not_end_the_program(install: Install):
    install("exiting-one", "exiting = exiting_one:Thing", "raise SystemExit(3)")
    with pytest.raises(PluginLoadError):
        plugins.load(GROUP, "exiting")


def test_a_plugin_built_for_another_core_says_so_when_it_cannot_be_loaded(install: Install):
    install("future-one", "future = future_one:Thing", "from apflow.core import warp", "apflow-core>=9")
    with pytest.raises(PluginLoadError, match="built for apflow-core>=9"):
        plugins.load(GROUP, "future")


def test_a_broken_plugin_is_imported_once(install: Install, tmp_path: Path):
    count = f"with open({str(tmp_path / 'count')!r}, 'a') as f: f.write('x')"
    code = f"{count}\nraise RuntimeError('no')"
    install("broken-one", "broken = broken_one:Thing", code)
    for _ in range(3):
        with pytest.raises(PluginLoadError):
            plugins.load(GROUP, "broken")
    assert (tmp_path / "count").read_text() == "x"


PASSING = {
    "no file descriptor": "raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))",
    "no file descriptor in the system": "raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))",
    "full disk": "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))",
    "no memory": "raise MemoryError",
    "the dynamic linker": "raise ImportError('libx.so: cannot open shared object file: Too many open files')",
    "within another error": """
try:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
except OSError as error:
    raise ImportError("x is not available") from error
""",
    "within an exit": """
try:
    raise MemoryError
except MemoryError:
    raise SystemExit(1)
""",
    "in a group": "raise ExceptionGroup('two', [ValueError('no'), MemoryError()])",
}


@pytest.mark.parametrize("code", PASSING.values(), ids=PASSING)
def test_an_import_that_lacked_a_resource_is_tried_again(install: Install, tmp_path: Path, code: str):
    (tmp_path / "fault.py").write_text(f"import errno, os\n{code}")
    install("short-one", "short = short_one:Thing", "import fault\nclass Thing: pass")
    with pytest.raises(PluginLoadError, match="lacked a resource") as caught:
        plugins.load(GROUP, "short")
    assert caught.value.may_pass
    (tmp_path / "fault.py").write_text("# all is well, and the file has another length")
    assert getattr(plugins.load(GROUP, "short"), "__name__", None) == "Thing"


def test_an_import_that_is_interrupted_is_tried_again(install: Install, tmp_path: Path):
    (tmp_path / "fault.py").write_text("raise KeyboardInterrupt")
    install("short-one", "short = short_one:Thing", "import fault\nclass Thing: pass")
    with pytest.raises(KeyboardInterrupt):
        plugins.load(GROUP, "short")
    (tmp_path / "fault.py").write_text("# all is well, and the file has another length")
    assert getattr(plugins.load(GROUP, "short"), "__name__", None) == "Thing"


def test_a_package_whose_import_was_cut_short_is_whole_at_the_next_attempt(install: Install, tmp_path: Path):
    package = tmp_path / "half"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import half.part\nimport fault\nclass Thing: value = half.part.VALUE"
    )
    (package / "part.py").write_text("VALUE = 7")
    (tmp_path / "fault.py").write_text("raise MemoryError")
    install("half-one", "half = half:Thing", "")
    (tmp_path / "half.py").unlink()
    with pytest.raises(PluginLoadError):
        plugins.load(GROUP, "half")
    assert "half.part" not in sys.modules
    (tmp_path / "fault.py").write_text("# all is well, and the file has another length")
    assert getattr(plugins.load(GROUP, "half"), "value", None) == 7


SHORT_OF_DESCRIPTORS = """
import os, resource, sys
from apflow.core import plugins

if sys.argv[1] == "loading":
    plugins.names("apflow.executors")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    plugins.load("apflow.executors", "short")
except (OSError, plugins.PluginLoadError) as error:
    print("failed:", type(error).__name__)
else:
    print("loaded without a descriptor")
for each in held:
    os.close(each)
print("loaded:", plugins.load("apflow.executors", "short").__name__)
"""


@pytest.mark.parametrize("when", ["scanning", "loading"])
def test_no_free_descriptor_at_the_first_use_leaves_the_plugin_usable(
    install: Install, tmp_path: Path, when: str
):
    install("short-one", "short = short_one:Thing", "import wave\nclass Thing: pass")
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_DESCRIPTORS, when],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failed, loaded = done.stdout.splitlines()
    # Some versions of Python import importlib.metadata only when the plugin is loaded.
    failures = ["OSError"] if when == "scanning" else ["PluginLoadError", "OSError"]
    assert failed in [f"failed: {each}" for each in failures]
    assert loaded == "loaded: Thing"


def test_two_owners_of_one_name_are_an_error_that_names_both(install: Install):
    install("owner-one", "shared = owner_one:Thing", "class Thing: pass")
    install("owner-two", "shared = owner_two:Thing", "class Thing: pass")
    with pytest.raises(PluginConflictError, match=r"owner-one and owner-two.*PLUGINS_PREFER"):
        plugins.load(GROUP, "shared")
    owners = {each.distribution for each in plugins.listing(GROUP) if each.name == "shared"}
    assert owners == {"owner-one", "owner-two"}


def test_a_setting_chooses_between_two_owners(install: Install, monkeypatch: pytest.MonkeyPatch):
    install("owner-one", "shared = owner_one:Thing", "class Thing: pass")
    install("owner-two", "shared = owner_two:Thing", "class Thing: pass")
    monkeypatch.setenv("APFLOW_PLUGINS_PREFER", "shared=Owner_Two")
    reset_settings()
    assert getattr(plugins.load(GROUP, "shared"), "__module__", None) == "owner_two"


def test_an_unknown_name_is_a_lookup_error():
    with pytest.raises(LookupError, match="nobody_offers_this"):
        plugins.load(GROUP, "nobody_offers_this")
    assert plugins.find(GROUP, "nobody_offers_this") is None
