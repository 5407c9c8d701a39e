import re
import subprocess
import sys
from pathlib import Path

from peers.grpcserver import serve_in_process

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme_runs(tmp_path: Path):
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    with serve_in_process() as (_, port):
        program = [sys.executable, "-c", example.replace("50051", str(port))]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "SERVING\n"


def test_the_readme_tells_every_input_and_error():
    from apflow.executor import grpc
    from apflow.executor.grpc.inputs import SCHEMA

    text = README.read_text()
    names = [*SCHEMA["properties"], *SCHEMA["properties"]["tls"]["properties"], *grpc.__all__]
    untold = {"GrpcError", "GrpcExecutor"}
    assert [name for name in names if f"`{name}`" not in text and name not in untold] == []
