import re
from pathlib import Path

import pytest
from peers.a2aagent import A2aAgent

from apflow.executor import a2a
from apflow.executor.a2a.schema import SCHEMA

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    agent: A2aAgent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("AGENT_URL", agent.url)
    monkeypatch.setenv("APFLOW_SECRET_AGENT_TOKEN", "not required here")
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "Hello you\n"


def test_every_input_and_error_is_described():
    text = README.read_text()
    errors = [name for name in a2a.__all__ if name.endswith("Error") and name != "A2aError"]
    assert [name for name in [*SCHEMA["properties"], *errors] if f"`{name}`" not in text] == []
