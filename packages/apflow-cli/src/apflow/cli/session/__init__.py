"""What surrounds a command's work: logging, the store or the server it talks to, signals, settings."""
