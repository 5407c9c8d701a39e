"""Publishing events of trees to subscribers in this process, and progress."""
