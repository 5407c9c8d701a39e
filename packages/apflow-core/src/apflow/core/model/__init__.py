"""What a database holds: tasks, their status and position in a tree, and events.

Pure: nothing here awaits or does I/O.
"""
