"""What a tree may use, by who wrote it: secrets and files."""
