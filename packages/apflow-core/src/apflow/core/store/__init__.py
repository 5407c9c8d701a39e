"""The contract of stores, and what stores share.

Group commit, the store in memory, one session per database URL.
"""
