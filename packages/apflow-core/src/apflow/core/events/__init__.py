"""Publishes events of trees to subscribers in this process, including the progress that executors report."""
