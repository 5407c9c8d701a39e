"""Several workers on one PostgreSQL, what befalls them, and what must hold afterwards."""
