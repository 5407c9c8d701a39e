"""The server as one or several processes: start, stop, reload."""
