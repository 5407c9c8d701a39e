"""The worker's modules are importable here as in the worker: by the name `faultkit`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
