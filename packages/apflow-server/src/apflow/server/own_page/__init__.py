"""`apflow ui`: the page of a database, opened by its owner in a browser."""
