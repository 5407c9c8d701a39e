"""Manual pages of commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from apflow.cli.display.man_page import man_page, page_name, pages
from apflow.cli.program import program

EVERY = list(pages(click.Context(program, info_name="apflow", **program.context_settings)))


def test_there_is_a_page_for_every_command():
    names = [name for name, _ in EVERY]
    assert len(set(names)) == len(names)
    assert {"apflow", "apflow-run-flow", "apflow-tasks-list", "apflow-config-secrets-list"} <= set(names)


@pytest.mark.parametrize(("name", "ctx"), EVERY, ids=[name for name, _ in EVERY])
def test_a_page_names_every_option_of_its_command(name: str, ctx: click.Context):
    page = man_page(ctx, "0.1.0")
    assert page_name(ctx) == name
    for part in (".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"):
        assert re.search(f"^{re.escape(part)}", page, re.MULTILINE)
    plain = page.replace(r"\-", "-")
    for param in ctx.command.get_params(ctx):
        if isinstance(param, click.Option) and not param.hidden:
            assert param.opts[0].strip() in plain
    assert not re.search(r"^\.(?!TH|SH|PP|TP|nf|fi)", page, re.MULTILINE)


def test_text_is_not_taken_for_a_request():
    command = click.Command("x", help="First.\n\n.SO is text\\n with - and 'quotes'.\n\n\b\n'one\n  two")
    page = man_page(click.Context(command, info_name="x"), "1")
    assert "\n\\&.SO is text\\en with \\- and 'quotes'.\n" in page
    assert "\n.nf\n\\&'one\ntwo\n.fi\n" in page


def test_pages_are_written(bare: Any):
    assert bare("man", "tasks", "list").stdout.startswith('.TH "APFLOW\\-TASKS\\-LIST" "1"')
    written = bare.json("man", "--output", "share/man1")["files"]
    assert {Path(each).name for each in written} == {f"{name}.1" for name, _ in EVERY}
    assert (bare.folder / "share" / "man1" / "apflow.1").read_text().startswith('.TH "APFLOW" "1"')
    for arguments in (["man", "nothing"], ["man", "tasks", "nothing"], ["man", "tasks", "-o", "x"]):
        assert bare(*arguments).returncode == 2


def test_groff_formats_every_page(tmp_path: Path):
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed")
    for name, ctx in EVERY:
        done = subprocess.run(
            [groff, "-man", "-Tascii", "-z"],
            input=man_page(ctx, "0.1.0"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == "", name
