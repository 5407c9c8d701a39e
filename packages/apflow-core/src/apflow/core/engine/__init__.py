"""Runs trees of tasks: calls their executors, and manages ownership, recovery and drain of trees."""
