import re
from pathlib import Path

import pytest
from peers.apflowserver import ApflowServer

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    server: ApflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("APFLOW_API_URL", server.url)
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = example.replace("system_info_executor", "far_say")  # this package does not bring the other
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "completed 1.0\ncompleted\n"
