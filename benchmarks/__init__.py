"""What the README quotes, measured beside its floor: `python -m benchmarks`."""
