"""The fault campaign: workers that are killed and suspended under load, and what must hold afterwards."""
