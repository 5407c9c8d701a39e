"""Who calls: bearer tokens, their keys, and what a caller may do."""
