"""Captures what the code of tasks writes: records of `logging`, standard output, and lines of executors."""
