"""Authentication and authorization: bearer tokens, their keys, and the permissions of callers."""
