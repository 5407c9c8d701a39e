"""The process that runs, and its files.

Identity, atomic files, the file that announces a server, captured output, and the end of child processes.
"""
