"""The page of the server, at `/ui/`: its files, the sessions of browsers, and the command that opens it."""
