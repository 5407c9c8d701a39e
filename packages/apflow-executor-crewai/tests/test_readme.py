import json
import re
from pathlib import Path

import pytest

from apflow.testing.modelserver import ModelServer, Reply

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    server.script += [Reply("Facts."), Reply("Prose.")]
    monkeypatch.setenv("MODEL_URL", server.openai_url)
    monkeypatch.setenv("APFLOW_SECRET_MODEL_KEY", "a-key-for-the-model")
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "Prose. 2\n"
    assert {request.api_key for request in server.requests} == {"a-key-for-the-model"}
    assert "tides" in json.dumps(server.requests[0].body)
