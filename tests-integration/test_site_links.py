"""The check of the site of the documents finds dead links, and pages that load something from other hosts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECK = "import sys; sys.path.insert(0, sys.argv[1]); import docs_links, pathlib; "
CHECK += "print(*docs_links.faults(pathlib.Path(sys.argv[2])), sep='\\n')"
POLICY = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'self'\">"
OTHER = f"{POLICY}<h2 id='here'>Here</h2><a href='index.html#top'>back</a>"


def faults(site: Path, page: str, **files: str) -> list[str]:
    """Return what the check says of a site with this first page and another one."""
    for name, text in {"index.html": page, "other.html": OTHER, **files}.items():
        (site / name).write_text(text)
    command = [sys.executable, "-c", CHECK, str(ROOT / "tools"), str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()


GOOD = (
    f"{POLICY}<h1 id='top'>Top</h1><a href='other.html#here'>x</a><a href='#top'>x</a>"
    "<a href='https://example.com/x'>elsewhere</a><link rel='canonical' href='https://example.com/'>"
    "<script src='other.html'></script><img src='data:image/png;base64,AA=='>"
)


def test_a_site_without_faults_passes(tmp_path: Path):
    assert faults(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("<a href='missing.html'>x</a>", "index.html: missing.html leads to no file"),
        ("<a href='other.html#there'>x</a>", "index.html: other.html#there leads to no heading"),
        ("<a href='/other.html'>x</a>", "index.html: /other.html leads to no file"),
        (
            "<script src='https://a.example/x.js'></script>",
            "index.html: loads https://a.example/x.js from another host",
        ),
        (
            "<link rel='stylesheet' href='//a.example/x.css'>",
            "index.html: loads //a.example/x.css from another host",
        ),
        ("<img src='missing.png'>", "index.html: loads missing.png, which does not exist"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, added: str, fault: str):
    assert faults(tmp_path, GOOD + added) == [fault]


def test_a_page_whose_browser_may_load_from_other_hosts_is_found(tmp_path: Path):
    found = faults(tmp_path, GOOD.replace(POLICY, ""))
    assert found == ["index.html: has no policy that forbids to load from other hosts"]


def test_a_font_of_another_host_in_a_style_is_found(tmp_path: Path):
    style = {"style.css": "@import url('https://fonts.googleapis.com/css');"}
    assert faults(tmp_path, GOOD, **style) == [
        "style.css: loads https://fonts.googleapis.com/css from another host"
    ]


def test_the_page_for_missing_pages_may_begin_links_at_the_root(tmp_path: Path):
    assert faults(tmp_path, GOOD, **{"404.html": f"{POLICY}<a href='/other.html'>x</a>"}) == []
