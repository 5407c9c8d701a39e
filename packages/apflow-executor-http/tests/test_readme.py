import re
from pathlib import Path

import pytest
from peers.http import TOKEN, HttpPeer

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(
    peer: HttpPeer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ORDERS_URL", peer.url("/auth"))
    monkeypatch.setenv("APFLOW_SECRET_ORDERS_TOKEN", TOKEN)
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "200 {'ok': True}\n"
