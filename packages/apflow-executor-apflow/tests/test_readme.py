import re
from pathlib import Path

import pytest
from peers.apflowserver import ApflowServer

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    server: ApflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FAR_SERVER", server.url)
    monkeypatch.setenv("APFLOW_SECRET_FAR_TOKEN", "not asked for here")
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = example.replace("system_info_executor", "far_say").replace('"resource": "cpu"', '"text": "hi"')
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "completed {'said': 'hi'}\n"
