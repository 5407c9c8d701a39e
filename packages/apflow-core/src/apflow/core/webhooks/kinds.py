"""The kinds of records of webhooks, for those who do not need the rest: pydantic takes long to import."""

from __future__ import annotations

from typing import Final

KIND: Final = "webhook"
ENDED_KIND: Final = "webhook.ended"  # a separate kind, so that the sender does not read ended webhooks again
