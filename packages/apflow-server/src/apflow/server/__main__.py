"""`python -m apflow.server` is `apflow-server`."""

import sys

from apflow.server.command import main

sys.exit(main())
