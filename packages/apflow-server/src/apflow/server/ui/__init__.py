"""The page of the server, at `/ui/`: its files, and the sessions of browsers."""
