"""Every page of docs/ runs by itself: its blocks, in an environment with only the packages that it names."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from documents.frames import FRAMES, Frame, frame_of
from documents.page import DOCS, SHELLS, SHOWN, Page, base, pages
from documents.place import Places, elsewhere, has_work, is_run, run, script
from installing import Wheels
from peers.ports import free_socket, port_of

from apflow.testing.modelserver import Reply, model_server

EVERY = pages()
RUN = [page for page in EVERY if has_work(page, frame_of(page.name))]
GENERATED = [{"id": "all", "name": "merged"}, {"id": "one", "name": "part", "parent_id": "all"}]


@pytest.fixture(scope="session")
def places(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(wheels, base(), tmp_path_factory.mktemp("places"))


@pytest.fixture
def variables(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Give what differs between runs: ports, and addresses of a model and of PostgreSQL."""
    with ExitStack() as stack:
        served, receiver = (port_of(stack.enter_context(free_socket())) for _ in range(2))
        model = stack.enter_context(model_server())
        model.default = Reply(json.dumps({"tasks": GENERATED}))
        found = {
            "PORT": str(served),
            "APFLOW_BIND": f"127.0.0.1:{served}",
            "RECEIVER": str(receiver),
            "OPENAI_API_BASE": model.openai_url,
        }
        page = request.node.callspec.params.get("page")
        if page is not None and "$POSTGRES" in script(page, frame_of(page.name)):
            found["POSTGRES"] = request.getfixturevalue("postgres_url")
        yield found


@pytest.mark.pages
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_runs_with_only_the_packages_that_it_names(
    page: Page, places: Places, variables: dict[str, str], tmp_path: Path
):
    run(page, frame_of(page.name), places.place(page, tmp_path / "home", variables))


@pytest.mark.pages
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nimport fastapi\n```\n", "No module named 'fastapi'"),
        ("```python\nx = 1\n```\n\n```python\n\nassert x == 2\n```\n", 'page.py", line 7'),
        ("```yaml\n- name: rest_executor\n  inputs: {url: 'http://a'}\n```\n", "does not say to install"),
        ("```sh\napflow tasks get nothing\n```\n", "exit status 3"),
    ],
    ids=["a module", "a wrong block", "an executor", "a command that fails"],
)
def test_a_page_that_does_not_work_by_itself_is_found(
    text: str, message: str, places: Places, tmp_path: Path
):
    page = Page("docs/page.md", text)
    place = places.place(page, tmp_path / "home", {})
    with pytest.raises(AssertionError, match=message):
        run(page, Frame(), place)


def read_documents(text: str) -> None:
    """Read one JSON document or several in a row; `...` stands for a value."""
    rest = text.replace(": ...", ": 0").strip()
    while rest:
        _, end = json.JSONDecoder().raw_decode(rest)
        rest = rest[end:].strip()


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.name)
def test_every_block_of_a_page_is_run_or_read_by_a_program(page: Page):
    frame = frame_of(page.name)
    for block in page.blocks:
        where = f"{page.name}, line {block.line}"
        if block.language == "python":
            other = elsewhere(block, frame)
            assert other is not None or not block.is_skipped, f"{where}: no test runs this block"
        elif block.language in SHELLS:
            left = [reason for text, reason in frame.not_run.items() if text in block.text]
            assert is_run(block, frame) or elsewhere(block, frame) or left, where
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            read_documents(block.text)
        else:
            assert block.language in SHOWN or elsewhere(block, frame), f"{where}: {block.language}"


def test_a_frame_names_what_is_on_its_page():
    """A string that is no longer on the page, and a test that is no longer there, are found."""
    for name, frame in FRAMES.items():
        text = (DOCS / f"{name}.md").read_text()
        for part in (*frame.between, *frame.values, *frame.elsewhere, *frame.not_run):
            assert part in text, f"{name}: {part}"
        for test in frame.elsewhere.values():
            assert (Path(__file__).parent / test).is_file(), f"{name}: {test}"
