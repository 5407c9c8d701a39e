import json
import re
from pathlib import Path

import pytest

from apflow.testing.modelserver import ModelServer, Reply

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tasks = [{"id": "all", "name": "State"}, {"id": "again", "name": "Again", "parent_id": "all"}]
    named = [
        task | {"schemas": {"method": "llm_executor"}, "inputs": {"model": "openai/x"}} for task in tasks
    ]
    server.script.append(Reply(json.dumps({"tasks": named})))
    monkeypatch.setenv("MODEL_URL", server.openai_url)
    monkeypatch.setenv("APFLOW_SECRET_MODEL_KEY", "a-key-for-the-model")
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "['State', 'Again']\npending\n"
