import re
import subprocess
import sys
from pathlib import Path

from peers.engine import IMAGE, Engine

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme_runs(engine: Engine, tmp_path: Path):
    with engine.client() as client:
        client.tag(IMAGE, "busybox", "1")
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    program = [sys.executable, "-c", example]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"3\n\n", done.stdout)
