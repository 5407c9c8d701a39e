"""Decides what a run does next and which changes it writes.

The modules are pure: they do not await and do no I/O.
"""
