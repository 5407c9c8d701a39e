import os
import re
import subprocess
import sys
from pathlib import Path

from peers.sshd import Sshd

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme_runs(server: Sshd, tmp_path: Path):
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    environment = {
        **os.environ,
        "BUILD_HOST": server.host,
        "BUILD_PORT": str(server.port),
        "BUILD_USER": server.username,
        "BUILD_KNOWN_HOSTS": server.known_hosts,
        "APFLOW_SECRET_BUILD_KEY": server.keys["ed25519"].read_text(),
    }
    program = [sys.executable, "-c", example]
    done = subprocess.run(
        program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "3\n\n"
