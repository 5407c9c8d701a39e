"""Decides what a run does next and what is written. Pure: nothing here awaits or does I/O."""
