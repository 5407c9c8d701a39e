"""How long the campaigns take: `APFLOW_FAULT_CAMPAIGNS`, by default 10, and 3 in the nightly run."""

from __future__ import annotations

import os

CAMPAIGNS = int(os.environ.get("APFLOW_FAULT_CAMPAIGNS", "10"))
