"""The same trees run by other systems, each in a separate virtual environment."""
