"""New distributions of plugins: their names, their kinds, and the files they begin with."""
