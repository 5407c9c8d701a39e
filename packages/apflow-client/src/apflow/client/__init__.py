"""A typed client of an apflow server."""

__all__: list[str] = []
